"""Data planes: what carries datagrams into and out of tunnels, behind one protocol.

`api` says what a data plane does; `kernel` makes devices of the kernel, `tun` runs a process on a TUN device,
`mixed` has both and chooses for each tunnel, and `probe` finds out which this node can have. How a datagram
is encapsulated is the affair of `wire.ip_in_ip`, `wire.gre`, `wire.minimal` and `wire.in_udp`.
"""
