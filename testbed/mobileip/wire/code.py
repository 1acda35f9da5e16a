"""Reply codes (RFC 5944 §3.4, RFC 3024 §3.4, RFC 2794 §5, RFC 3519 §3.5, RFC 4721 §10)."""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """What a registration reply says; the names follow the texts."""

    ACCEPTED = 0
    ACCEPTED_NO_SIMULTANEOUS = 1

    FA_REASON_UNSPECIFIED = 64
    FA_PROHIBITED = 65
    FA_INSUFFICIENT_RESOURCES = 66
    FA_MOBILE_NODE_FAILED_AUTHENTICATION = 67
    FA_HOME_AGENT_FAILED_AUTHENTICATION = 68
    FA_LIFETIME_TOO_LONG = 69
    FA_POORLY_FORMED_REQUEST = 70
    FA_POORLY_FORMED_REPLY = 71
    FA_ENCAPSULATION_UNAVAILABLE = 72
    FA_REVERSE_TUNNEL_UNAVAILABLE = 74
    FA_REVERSE_TUNNEL_MANDATORY = 75
    FA_MOBILE_NODE_TOO_DISTANT = 76
    FA_INVALID_CARE_OF_ADDRESS = 77
    FA_REGISTRATION_TIMEOUT = 78
    FA_DELIVERY_STYLE_NOT_SUPPORTED = 79
    FA_HOME_NETWORK_UNREACHABLE = 80
    FA_HOME_AGENT_HOST_UNREACHABLE = 81
    FA_HOME_AGENT_PORT_UNREACHABLE = 82
    FA_HOME_AGENT_UNREACHABLE = 88
    FA_NONZERO_HOME_ADDRESS_REQUIRED = 96
    FA_MISSING_NAI = 97
    FA_MISSING_HOME_AGENT = 98
    FA_MISSING_HOME_ADDRESS = 99
    FA_UNKNOWN_CHALLENGE = 104
    FA_MISSING_CHALLENGE = 105
    FA_STALE_CHALLENGE = 106
    FA_BAD_AAA_AUTHENTICATION = 108
    FA_HOME_AGENT_WRONG_CHALLENGE = 109
    """In the Foreign Agent Error Extension alone (RFC 4721 §3.3)."""
    FA_INVALID_HOME_AGENT_ADDRESS = 194

    HA_REASON_UNSPECIFIED = 128
    HA_PROHIBITED = 129
    HA_INSUFFICIENT_RESOURCES = 130
    HA_MOBILE_NODE_FAILED_AUTHENTICATION = 131
    HA_FOREIGN_AGENT_FAILED_AUTHENTICATION = 132
    HA_IDENTIFICATION_MISMATCH = 133
    HA_POORLY_FORMED_REQUEST = 134
    HA_TOO_MANY_BINDINGS = 135
    HA_UNKNOWN_HOME_AGENT = 136
    HA_REVERSE_TUNNEL_UNAVAILABLE = 137
    HA_REVERSE_TUNNEL_MANDATORY = 138
    HA_ENCAPSULATION_UNAVAILABLE = 139
    HA_UDP_ENCAPSULATION_UNAVAILABLE = 142
    HA_BAD_AAA_AUTHENTICATION = 144


def accepted(code: int) -> bool:
    """Whether the home agent granted the request."""
    return code in (0, 1)


def from_foreign_agent(code: int) -> bool:
    """Whether a foreign agent says so: such a reply carries no Mobile-Home Authentication Extension."""
    return 64 <= code <= 127 or code == Code.FA_INVALID_HOME_AGENT_ADDRESS


def from_unreachable(icmp_code: int) -> Code:
    """What a foreign agent answers when ICMP says that a home agent cannot be reached (RFC 5944 §3.4).

    The ICMP codes speak of the network, the host or the port (RFC 792, RFC 1122 §3.2.2.1).
    """
    if icmp_code in (0, 6, 9, 11):
        return Code.FA_HOME_NETWORK_UNREACHABLE
    if icmp_code in (1, 7, 8, 10, 12):
        return Code.FA_HOME_AGENT_HOST_UNREACHABLE
    if icmp_code == 3:
        return Code.FA_HOME_AGENT_PORT_UNREACHABLE
    return Code.FA_HOME_AGENT_UNREACHABLE


def describe(code: int) -> str:
    """A word for people and logs."""
    try:
        return Code(code).name.lower().replace("_", "-")
    except ValueError:
        return f"code-{code}"
