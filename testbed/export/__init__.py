"""Labs for other tools: what a topology renders, as files that need no testbed."""
