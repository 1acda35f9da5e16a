"""Experiments: claims decided, hand-offs measured; what is seen goes into an evidence folder."""
