"""Debian packages for a board, worked out and fetched by the apt of the controller in a root of the board's own."""
