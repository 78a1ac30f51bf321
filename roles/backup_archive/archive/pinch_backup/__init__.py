"""Backups of boards: what is in one, how it is encrypted, and the folder that they are kept in."""
