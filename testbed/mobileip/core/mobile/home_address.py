"""What a mobile node is known by: its home address, configured or assigned, and its NAI (RFC 2794)."""

from __future__ import annotations

from ipaddress import IPv4Address

from testbed.mobileip.core.links import UNSPECIFIED, is_unicast
from testbed.mobileip.core.mobile.config import MobileNodeConfig
from testbed.mobileip.wire.code import Code, accepted
from testbed.mobileip.wire.extension import Extension
from testbed.mobileip.wire.nai import encode, nai_of
from testbed.mobileip.wire.registration_reply import RegistrationReply


class HomeAddress:
    """The home address, which the home agent may assign and take away."""

    def __init__(self, config: MobileNodeConfig) -> None:
        self.address = config.home_address or UNSPECIFIED
        """0.0.0.0 while it is not known: what all fields have in its place (RFC 5944 §3.6.1)."""
        self._assigned = config.home_address is None
        self.nai = config.nai
        self.extensions: tuple[Extension, ...] = () if config.nai is None else (encode(config.nai),)
        """What identifies the mobile node in a request."""

    @property
    def known(self) -> bool:
        """Whether there is a home address."""
        return self.address != UNSPECIFIED

    def mismatch(self, asked: IPv4Address, reply: RegistrationReply) -> str | None:
        """Why a reply does not answer a request with the home address `asked`; None: it does.

        Raises WireError for an NAI that is none.
        """
        if nai_of(reply.extensions) not in (None, self.nai):
            return "nai"
        if asked == UNSPECIFIED:
            possible = is_unicast(reply.home_address) or not accepted(reply.code)
        else:
            possible = reply.home_address == asked or reply.code == Code.FA_MISSING_HOME_ADDRESS
        return None if possible else "home-address"

    def take(self, reply: RegistrationReply) -> bool:
        """Adopt the home address of an accepted request, if it was not known."""
        if self.known or not accepted(reply.code):
            return False
        self.address = reply.home_address
        return True

    def refused(self, code: int) -> None:
        """Forget an assigned address that is not granted any more: somebody else may have it."""
        if self._assigned and code == Code.HA_PROHIBITED:
            self.address = UNSPECIFIED
