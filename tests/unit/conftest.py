"""Scapy without the routes of this machine, which it reads when it starts: no packet here depends on them."""

from scapy.config import conf

conf.route_autoload = conf.route6_autoload = False
