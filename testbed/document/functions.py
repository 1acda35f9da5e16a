"""The words between role manifests and host modules: what a node functions as, and what a setting means.

Role and setting names are the manifests' own affair. A host module that needs a home agent or its address
asks for the function or the meaning, and gets whatever role or setting a manifest declares for it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

SettingType = Literal[
    "network", "node", "address", "prefix", "address-range", "duration", "lifetime", "bool", "int", "string",
    "enum",
]  # fmt: skip


class Function(StrEnum):
    """The entities that host modules name: of Mobile IPv4 (RFC 5944 §1.6), IPsec, DHCP and the emulation.

    Each is the name of the built-in role that is one; another role is one by `acts-as`. The control socket of
    a Mobile IPv4 daemon has the same name.
    """

    MOBILE_NODE = "mobile-node"
    HOME_AGENT = "home-agent"
    FOREIGN_AGENT = "foreign-agent"
    CORRESPONDENT = "correspondent"
    VPN_GATEWAY = "vpn-gateway"
    DHCP_SERVER = "dhcp-server"
    HUB = "hub"
    BULK_NODES = "bulk-nodes"


class Meaning(StrEnum):
    """What a setting means to host modules, whatever a role calls it."""

    HOME_ADDRESS = "home-address"
    HOME_AGENT = "home-agent"
    FALLBACK_AGENTS = "fallback-agents"
    HOME_NETWORK = "home-network"
    VIRTUAL_HOME = "virtual-home"
    AGENT_LINK = "agent-link"
    CORRESPONDENT = "correspondent"
    VPN_GATEWAY = "vpn-gateway"
    OUTSIDE = "outside"
    PROTECTS = "protects"
    INNER_POOL = "inner-pool"
    PASSES = "passes"
    ENCAPSULATION = "encapsulation"
    UDP_TUNNEL = "udp-tunnel"
    PEER = "peer"
    VISITED = "visited"
    CARE_OF = "care-of"
    REVOCATION = "revocation"
    PRIVATE = "private"
    TRANSLATES = "translates"
    DHCP_POOL = "dhcp-pool"
    NAI = "nai"
    MOBIKE = "mobike"
    WHEREABOUTS = "whereabouts"
    TRUSTED = "trusted"
    OUTER_HOME_AGENT = "outer-home-agent"
    OUTER_HOME_ADDRESS = "outer-home-address"
    OUTER_UDP_TUNNEL = "outer-udp-tunnel"
    HOME_POOL = "home-pool"


MEANINGS: Final[dict[Meaning, tuple[SettingType, str]]] = {
    Meaning.HOME_ADDRESS: ("address", "a mobile node's home address"),
    Meaning.NAI: ("string", "what a mobile node without a home address of its own is known by (RFC 2794)"),
    Meaning.HOME_AGENT: ("node", "a mobile node's home agent"),
    Meaning.FALLBACK_AGENTS: ("node", "further home agents, which a mobile node asks in turn"),
    Meaning.HOME_POOL: ("prefix", "what a home agent assigns home addresses from"),
    Meaning.HOME_NETWORK: ("network", "a home agent's home link"),
    Meaning.VIRTUAL_HOME: ("prefix", "the prefix of a home network without a link (RFC 5944 §1.1)"),
    Meaning.AGENT_LINK: ("network", "the link whose address mobile nodes register at"),
    Meaning.CORRESPONDENT: ("node", "the correspondent node whose answer ends a hand-off"),
    Meaning.VPN_GATEWAY: ("node", "the VPN gateway that a client or a home agent works with"),
    Meaning.OUTSIDE: ("network", "the untrusted link"),
    Meaning.PROTECTS: ("prefix", "what is reached through a VPN gateway"),
    Meaning.INNER_POOL: ("prefix", "addresses that a VPN gateway lends to clients"),
    Meaning.PASSES: ("enum", "what the security policy lets pass besides IPsec"),
    Meaning.UDP_TUNNEL: ("enum", "when a mobile node asks for a tunnel in UDP: off, nat or forced"),
    Meaning.ENCAPSULATION: ("enum", "how the tunnels of a mobile node carry packets"),
    Meaning.PEER: ("node", "the gateway that another builds a tunnel to"),
    Meaning.VISITED: ("network", "the link that mobile nodes visit"),
    Meaning.CARE_OF: ("network", "the link whose address is a foreign agent's care-of address"),
    Meaning.REVOCATION: ("bool", "whether a foreign agent revokes registrations and has them revoked"),
    Meaning.PRIVATE: ("network", "the link whose addresses a NAT hides from others"),
    Meaning.TRANSLATES: ("enum", "what a NAT translates: ports, of TCP, UDP and ICMP, or addresses"),
    Meaning.MOBIKE: ("bool", "whether a VPN client keeps its IKE SA when its address changes (RFC 4555)"),
    Meaning.WHEREABOUTS: ("enum", "how a VPN client knows which networks are inside"),
    Meaning.TRUSTED: ("prefix", "where a home agent trusts requests from (RFC 5265 §4.3)"),
    Meaning.OUTER_HOME_AGENT: ("node", "a mobile node's home agent outside, of two (x-HA of RFC 5265)"),
    Meaning.OUTER_HOME_ADDRESS: ("address", "a mobile node's home address outside (x-HoA)"),
    Meaning.OUTER_UDP_TUNNEL: ("enum", "when a mobile node asks that home agent for a tunnel in UDP"),
    Meaning.DHCP_POOL: ("address-range", "addresses that a DHCP server hands out"),
}
"""Meaning → the type that such a setting must have, and in words what it is."""

STATIC: Final = "static"
"""`routing` of a role that forwards for its neighbours, and learns no routes from them."""
