"""How a mobile node proves itself to AAA, and those who verify for AAA (RFC 4721 §6, §8)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from testbed.mobileip.core.association import AuthenticationError
from testbed.mobileip.core.security import Credential, Peer
from testbed.mobileip.wire.authentication import CHAP_SPI, MOBILE_AAA, Authentication, long_header, protected
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.extension import GENERALIZED_AUTHENTICATION, Extension
from testbed.mobileip.wire.registration_request import RegistrationRequest

NO_CHALLENGE = b"\0"
"""Challenge value 0: of a request that carries none (§3.5)."""
_SIZE = 16
_LEAST = 237  # octets of the challenge at the end (§8)


def authenticator(credential: Credential, covered: bytes, challenge: bytes) -> bytes:
    """HMAC-MD5 of what is covered; with the SPI of CHAP what RADIUS servers make of it, and the challenge."""
    if credential.spi != CHAP_SPI:
        return hmac.digest(credential.key, covered, "md5")
    inner = hashlib.md5(covered, usedforsecurity=False).digest()
    outer = challenge[:1] + credential.key + inner + challenge[-_LEAST:]
    return hashlib.md5(outer, usedforsecurity=False).digest()


def prove(message: bytes, credential: Credential, challenge: bytes) -> bytes:
    """`message` with the Mobile-AAA Authentication Extension appended."""
    covered = message + long_header(MOBILE_AAA, credential.spi, _SIZE)
    return covered + authenticator(credential, covered, challenge)


def is_mobile_aaa(extension: Extension) -> bool:
    """Whether this is a Mobile-AAA Authentication Extension."""
    return extension.type == GENERALIZED_AUTHENTICATION and extension.subtype == MOBILE_AAA


class Credentials:
    """The keys of mobile nodes that AAA shares with those who verify here, by node and SPI."""

    def __init__(self, credentials: Iterable[Credential]) -> None:
        """Raises ValueError for two of one node and SPI."""
        self._by_node: dict[Peer, dict[int, Credential]] = {}
        for credential in credentials:
            known = self._by_node.setdefault(credential.node, {})
            if credential.spi in known:
                raise ValueError(f"two AAA keys of {credential.node} have SPI {credential.spi}")
            known[credential.spi] = credential

    def __bool__(self) -> bool:
        return bool(self._by_node)

    def verify(
        self, payload: bytes, request: RegistrationRequest, nai: str | None, challenge: bytes | None
    ) -> None:
        """Check the Mobile-AAA authentication of a request, if it has one and its node has a key here.

        Raises AuthenticationError "unknown-spi" or "bad-authenticator".
        """
        known = self._by_node.get(nai or request.home_address, self._by_node.get(request.home_address))
        for extension in request.extensions if known is not None else ():
            if not is_mobile_aaa(extension):
                continue
            try:
                found = Authentication.from_extension(extension)
            except WireError as error:
                raise AuthenticationError("bad-authenticator") from error
            credential = (known or {}).get(found.spi)
            if credential is None:
                raise AuthenticationError("unknown-spi")
            covered = protected(payload, extension)
            expected = authenticator(credential, covered, challenge or NO_CHALLENGE)
            if not hmac.compare_digest(found.authenticator, expected):
                raise AuthenticationError("bad-authenticator")
