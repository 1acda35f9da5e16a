"""What a mobile node is made of (RFC 5944 §2.4, §3.6); `core.mobile_node` puts it together."""
