"""Scapy without the routes of this machine, which it would read first: no packet of a test depends on them."""

from scapy.config import conf

conf.route_autoload = conf.route6_autoload = False
