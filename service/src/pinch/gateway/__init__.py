"""The HTTP side: it parses, calls and serialises."""
