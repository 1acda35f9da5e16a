"""Reproduce the problems of Mobile IPv4 traversal of VPN gateways (RFC 4093) in real containers."""
