"""Topology files: the model, how they are read and checked, and what follows from them."""
