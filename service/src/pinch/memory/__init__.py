"""The memory of agents: what is remembered, ingested and recalled. Knows no HTTP."""
