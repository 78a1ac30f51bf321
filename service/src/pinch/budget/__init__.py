"""The budget: who may hold how much memory, and who does."""
