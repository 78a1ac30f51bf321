"""The image of a Pi, built on any Debian-like machine, and the emulator that boots it."""
