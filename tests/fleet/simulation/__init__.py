"""Simulated boards: real ssh into namespaces that look like a board, for what is to be proven of the controller.

Nothing here stands in for the controller's side. What a simulated board says about limits is what its files say; only
an emulated or a real board proves that they hold.
"""
