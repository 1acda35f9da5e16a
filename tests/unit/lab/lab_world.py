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
