"""The shell around the state machines: configuration, sockets, netlink, timers, control socket.

`daemon` puts the parts together; `shell` runs a core; `roles` carry out what it asks of the kernel.
"""
