"""A running lab as a live picture: in the terminal, and in a browser for a projector."""
