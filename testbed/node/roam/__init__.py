"""The mobile node's connection manager: link, address, IPsec and Mobile IP registration in the stack's order."""
