"""Programs that run inside node containers besides Mobile IP: the delay relay and the connection manager.

They stand alone (stdlib, pyroute2, vici) and meet the Mobile IP daemons only over their control sockets.
"""
