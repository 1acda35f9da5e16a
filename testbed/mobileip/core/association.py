"""The table of mobility security associations, and signing and checking with them (RFC 5944 §3.2, §3.5)."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address

from testbed.mobileip.core.security import Peer, SecurityAssociation
from testbed.mobileip.wire.algorithm import AUTHENTICATOR_SIZE
from testbed.mobileip.wire.authentication import Authentication, header, protected, spi_in
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.extension import Extension


class AuthenticationError(Exception):
    """An authentication is missing, more than one, or wrong; `reason` is fit to be a counter's name."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def sign(message: bytes, kind: int, association: SecurityAssociation) -> bytes:
    """`message` with the authentication extension `kind` (32, 33, 34) appended."""
    covered = message + header(kind, association.spi, AUTHENTICATOR_SIZE)
    return covered + association.algorithm.authenticator(association.key, covered)


def verify(
    payload: bytes, extension: Extension, authenticator: bytes, association: SecurityAssociation
) -> bool:
    """Whether the `authenticator` of `extension`, read from `payload`, is the one `association` makes."""
    expected = association.algorithm.authenticator(association.key, protected(payload, extension))
    return hmac.compare_digest(authenticator, expected)


def spi_of(extensions: Iterable[Extension], kind: int) -> int | None:
    """The SPI of the first authentication extension `kind`; None where there is none to be read."""
    for extension in extensions:
        if extension.type == kind:
            try:
                return spi_in(extension)
            except WireError:
                return None
    return None


class Associations:
    """Security contexts by peer and SPI."""

    def __init__(self, associations: Iterable[SecurityAssociation]) -> None:
        self._by_peer: dict[Peer, dict[int, SecurityAssociation]] = {}
        for association in associations:
            contexts = self._by_peer.setdefault(association.peer, {})
            if association.spi in contexts:
                raise ValueError(
                    f"two security associations of {association.peer} have SPI {association.spi}"
                )
            contexts[association.spi] = association

    def __contains__(self, peer: object) -> bool:
        return peer in self._by_peer

    def __iter__(self) -> Iterator[Peer]:
        """The peers, in the order they were listed."""
        return iter(self._by_peer)

    def known_as(self, home_address: IPv4Address, nai: str | None) -> Peer:
        """What a mobile node is known by here: its NAI, if it is, else its home address."""
        return nai if nai is not None and nai in self._by_peer else home_address

    def choose(self, peer: Peer, spi: int | None = None) -> SecurityAssociation | None:
        """The context with `spi`, or the first one of `peer` where it has none such; None for a stranger."""
        contexts = self._by_peer.get(peer)
        if contexts is None:
            return None
        if spi is not None and spi in contexts:
            return contexts[spi]
        return next(iter(contexts.values()))

    def authenticate(
        self, payload: bytes, extensions: Iterable[Extension], kind: int, peer: Peer
    ) -> SecurityAssociation:
        """Check that exactly one extension `kind` is there and was made by `peer`; return its context.

        Raises AuthenticationError "missing-authentication", "repeated-authentication", "unknown-spi" or
        "bad-authenticator".
        """
        found = [extension for extension in extensions if extension.type == kind]
        if not found:
            raise AuthenticationError("missing-authentication")
        if len(found) > 1:
            raise AuthenticationError("repeated-authentication")
        try:
            proof = Authentication.from_extension(found[0])
        except WireError as error:
            raise AuthenticationError("bad-authenticator") from error
        association = self._by_peer.get(peer, {}).get(proof.spi)
        if association is None:
            raise AuthenticationError("unknown-spi")
        if not verify(payload, found[0], proof.authenticator, association):
            raise AuthenticationError("bad-authenticator")
        return association
