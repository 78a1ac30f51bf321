"""How a board swaps: what is in use and who made it, what is wanted, and the way from one to the other.

Runs on the board; `preflight` reads with it, the role `swap` reads, plans and changes with it.
"""
