"""What a home agent is made of (RFC 5944 §3.8); `core.home_agent` puts it together."""
