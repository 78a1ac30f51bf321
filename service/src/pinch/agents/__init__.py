"""Agents: sessions, the provider that speaks for them, and the loop between the two."""
