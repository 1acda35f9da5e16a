"""The encapsulations that a registration may agree on (RFC 5944 §4.1, RFC 3519 §3.1)."""

from __future__ import annotations

from enum import Enum


class Encapsulation(Enum):
    """How a datagram is carried to the other end of a tunnel."""

    IP_IN_IP = "ip-in-ip"  # RFC 2003: every agent and mobile node has it
    GRE = "gre"  # RFC 2784, the G bit
    MINIMAL = "minimal"  # RFC 2004, the M bit
    UDP = "udp"  # RFC 3519 §3.3: tunnel data messages (type 4) between UDP ports
