from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

IMAGE = "testbed-node:test"

SMALL = """\
name: small
title: Two hosts and a router
networks:
  left: {subnet: 10.1.0.0/24, domain: internet}
  right: {subnet: 10.2.0.0/24, domain: internet}
nodes:
  west: {roles: [correspondent], links: {left: 10.1.0.2}}
  east: {roles: [correspondent], links: {right: 10.2.0.2}}
  middle: {roles: [router], links: {left: 10.1.0.1, right: 10.2.0.1}}
"""

# A topology with a mobile node, which stays as it is whatever becomes of those that come with the product.
MOBILE = """\
name: plain-mip
title: A foreign agent, a DHCP server and a home agent
options:
  stack: {default: mip-only, choices: [mip-only], help: No IPsec}
  attach: {default: hotspot, choices: [hotspot, hotel, home]}

networks:
  internet: {subnet: 203.0.113.0/24, domain: internet, hub: core, delay: 10ms}
  hotspot: {subnet: 198.51.100.0/26, domain: internet, medium: wireless}
  hotel: {subnet: 198.51.100.64/26, domain: internet, medium: wireless}
  home: {subnet: 192.0.2.0/24, domain: operator}

nodes:
  core:
    roles: [router, hub]
    links: {internet: 203.0.113.1}
  fa-hotspot:
    roles: [router, foreign-agent]
    links: {internet: 203.0.113.10, hotspot: 198.51.100.1}
    settings: {visited: hotspot, care-of: internet}
  hotel-router:
    roles: [router, dhcp-server]
    links: {internet: 203.0.113.20, hotel: 198.51.100.65}
    settings: {dhcp-pool: 198.51.100.70-198.51.100.120}
  ha:
    roles: [router, home-agent]
    links: {internet: 203.0.113.40, home: 192.0.2.1}
    settings: {home-network: home}
  cn:
    roles: [correspondent]
    links: {home: 192.0.2.10}
  mn:
    roles: [mobile-node]
    attaches: [hotspot, hotel, home]
    settings: {home-agent: ha, home-address: 192.0.2.100, probe: cn}
"""


@dataclass
class Told:
    """A `Progress` that remembers."""

    said: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    when_shown: Callable[[str], None] = lambda text: None

    def say(self, text: str) -> None:
        self.said.append(text)

    def show(self, text: str) -> None:
        self.shown.append(text)
        self.when_shown(text)
