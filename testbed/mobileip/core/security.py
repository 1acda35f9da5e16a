"""What two nodes share that prove themselves to each other: keys, and how they are used (RFC 5944 §1.6)."""

from __future__ import annotations

from dataclasses import field
from enum import Enum
from ipaddress import IPv4Address

from testbed.mobileip.core.parameters import require
from testbed.mobileip.wire.algorithm import Algorithm
from testbed.mobileip.wire.authentication import CHAP_SPI
from testbed.mobileip.wire.nai import check as check_nai
from testbed.mobileip.wire.value import value

Peer = IPv4Address | str
"""Who shares a security association: an address, or a mobile node's NAI (RFC 2794)."""


class ReplayProtection(Enum):
    """How a home agent sees that a request is fresh (RFC 5944 §5.7)."""

    TIMESTAMPS = "timestamps"
    NONCES = "nonces"


@value
class SecurityAssociation:
    """One security context shared with `peer` (RFC 5944 §1.6): found by the peer and the SPI.

    A peer may have several contexts; the first one listed signs what is not the answer to a known SPI.
    """

    peer: Peer
    spi: int
    key: bytes = field(repr=False)
    algorithm: Algorithm = Algorithm.HMAC_MD5
    replay: ReplayProtection = ReplayProtection.TIMESTAMPS
    """Of no consequence where a foreign agent is one of the two."""

    def __post_init__(self) -> None:
        require(256 <= self.spi <= 0xFFFFFFFF, f"SPI must be 256 to 4294967295, not {self.spi}")
        if isinstance(self.peer, str):
            check_nai(self.peer, realm=True)
        require(len(self.key) > 0, "the key of a security association must not be empty")
        size = self.algorithm.key_size
        require(
            size in (None, len(self.key)),
            f"the key for {self.algorithm.value} must have {size} bytes, not {len(self.key)}",
        )


@value
class Credential:
    """What a mobile node and AAA share (RFC 4721 §6); an agent that has it verifies in the place of AAA."""

    node: Peer
    spi: int
    """Any from 256 on for HMAC-MD5, or that of CHAP (§8), which is weaker (§12)."""
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        require(
            self.spi == CHAP_SPI or 256 <= self.spi <= 0xFFFFFFFF,
            f"the SPI of an AAA key must be {CHAP_SPI} for CHAP, or 256 to 4294967295, not {self.spi}",
        )
        require(len(self.key) > 0, "an AAA key must not be empty")
