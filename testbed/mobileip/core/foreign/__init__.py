"""What a foreign agent is made of (RFC 5944 §3.7); `core.foreign_agent` puts it together."""
