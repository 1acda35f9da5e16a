"""The mobile node's connection manager: link, address, IPsec and registration in the stack's order."""
