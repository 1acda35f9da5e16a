"""Hand-offs measured: what a move between networks costs, and how that grows with the round-trip time."""
