"""Pinch: an AI-agent memory service that stays inside a memory budget."""

__version__ = "0.1.0"
