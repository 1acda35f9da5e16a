"""Programs that run inside node containers besides Mobile IP: the delay relay and the connection manager.

They share parts with the Mobile IP daemons (table reader, control server, journal, headers), but meet these
only over their control sockets. Besides they need pyroute2 and vici.
"""
