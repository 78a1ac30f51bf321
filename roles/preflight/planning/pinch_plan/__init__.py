"""The plan for a board: its tier, its limits, the sum of its memory, its swap, and why it would not work.

Runs on the controller.
"""
