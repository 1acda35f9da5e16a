"""Delay, jitter, loss and rate on a hub network, emulated in the hub node."""
