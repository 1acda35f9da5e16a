"""Data planes: what carries datagrams into and out of IP-in-IP tunnels, behind one protocol.

`api` says what a data plane does, `tun` and `kernel` are the two there are, `probe` picks one.
"""
