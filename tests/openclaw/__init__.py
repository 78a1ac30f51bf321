"""The OpenClaw CLI, unmodified, against the real service."""
