"""Mobile IPv4: home agent, foreign agent and mobile node after RFC 5944, with reverse tunnels (RFC 3024)
and NAT traversal (RFC 3519).

`wire` reads and writes the messages, `core` holds the state machines without clock or socket, `io` is the
shell around them and `tunnel` carries the data. Nothing here imports the rest of testbed.
"""
