"""Pinned embedding models, made on the controller into what a device maps and runs."""
