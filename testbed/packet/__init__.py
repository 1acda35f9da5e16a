"""Captured packets: read from files, decoded, filtered, and named."""
