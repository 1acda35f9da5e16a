"""Claims decided: which labs they need, their runs, and the verdicts, made again from the evidence."""
