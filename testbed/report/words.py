"""Small things that several drawings need: words for roles, lines of text, bounds."""

from __future__ import annotations

from collections.abc import Sequence

from testbed.topology.model import Topology

ROLE_WORDS = {
    "dhcp-server": "DHCP server",
    "foreign-agent": "foreign agent",
    "home-agent": "home agent",
    "mobile-node": "mobile node",
    "nat": "NAT",
    "ospf": "OSPF",
    "vpn-client": "VPN client",
    "vpn-gateway": "VPN gateway",
}
_PLAIN_ROLES = ("router", "ospf", "hub")
"""Roles that many nodes have: named last."""


def role_words(roles: Sequence[str]) -> str:
    """The roles of a node in words, the particular ones first."""
    ordered = sorted(roles, key=lambda role: role in _PLAIN_ROLES)
    return ", ".join(ROLE_WORDS.get(role, role.replace("-", " ")) for role in ordered if role != "hub")


def home_network(topology: Topology, mobile: str) -> str | None:
    """The network where a mobile node is at home, if it is a real one."""
    agent = topology.nodes.get(str(topology.nodes[mobile].settings.get("home-agent")))
    return agent.settings.get("home-network") if agent else None


def clamp(value: float, low: float, high: float) -> float:
    """The value, or the bound it is beyond; the middle where the bounds are crossed."""
    return (low + high) / 2 if low > high else min(max(value, low), high)


def wrap(text: str, width: int) -> list[str]:
    """Words in lines of a width, broken at spaces only."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return [line for line in lines if line]
