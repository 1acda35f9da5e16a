"""The challenges of a foreign agent: given out, and demanded of requests (RFC 4721 §2, §3.2, §3.3)."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from random import Random

from testbed.mobileip.core.aaa import Credentials, is_mobile_aaa
from testbed.mobileip.core.api import Datagram
from testbed.mobileip.core.association import Associations, AuthenticationError
from testbed.mobileip.core.disposition import Deny, Discard
from testbed.mobileip.core.foreign.config import ForeignAgentConfig
from testbed.mobileip.core.foreign.pending import Pending
from testbed.mobileip.core.links import UNSPECIFIED
from testbed.mobileip.core.security import Peer
from testbed.mobileip.wire.authentication import MOBILE_FOREIGN
from testbed.mobileip.wire.challenge import CHALLENGE, challenge
from testbed.mobileip.wire.code import Code
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest

_BITS = 128
"""Of a challenge: at least 32 are advised (§2), and so no identification has to be kept (§12)."""


@dataclass(slots=True)
class _Record:
    """What one mobile node has been given and has used."""

    given: bytes | None = None
    """For it alone, in a reply or a unicast advertisement, and not used yet."""
    used: bytes | None = None
    advertised: dict[str, bytes] = field(default_factory=dict)
    """The last one that it used of those advertised to all on a link, by the interface of the link."""


class Challenges:
    """Gives out challenges if the agent is configured to, and checks those that requests carry."""

    def __init__(self, config: ForeignAgentConfig, nodes: Associations, rng: Random) -> None:
        """`nodes` are the associations with mobile nodes, which make a challenge optional.

        Raises ValueError for two AAA keys of one node and SPI.
        """
        self._nodes = nodes
        self._credentials = Credentials(config.aaa)
        self._rng = rng
        self._link = config.link
        self._windows: dict[str, deque[bytes]] = {}
        self._enabled = config.challenge_window > 0
        self._records: OrderedDict[Peer, _Record] = OrderedDict()
        self._capacity = config.pending + config.visitors
        for link in config.links if self._enabled else ():  # whoever solicits may be first
            self._windows[link.interface] = deque((self._new(),), maxlen=config.challenge_window)

    def for_all(self, interface: str, solicited: bool) -> bytes | None:
        """For a multicast advertisement: a new one, unless somebody's solicitation has made it due (§2.1).

        Each link has a window of its own: advertisements on another make no challenge older.
        """
        if not self._enabled:
            return None
        window = self._windows[interface]
        if not solicited:
            window.append(self._new())
        return window[-1]

    def for_one(
        self,
        interface: str | None,
        home_address: IPv4Address,
        nai: str | None = None,
        authentic: bool = False,
    ) -> bytes | None:
        """One that this mobile node has not used, for a unicast advertisement or a reply (§2.1, §3.3).

        It is the last one advertised on the link of `interface`, or one for this mobile node alone. Only for
        an `authentic` one, or one known from its requests, anything is stored (§3.2.1, §12).
        """
        if not self._enabled:
            return None
        link, record = self._link(interface).interface, self._records.get(_node(home_address, nai))
        last = self._windows[link][-1]
        unused = record is None or last not in (record.used, record.advertised.get(link))
        if not authentic and unused and (record is None or record.given is None):
            return last
        record = record or self._record(_node(home_address, nai))
        if record.given is None:
            record.given = self._new()
        return record.given

    def check(
        self, datagram: Datagram, request: RegistrationRequest, nai: str | None, pending: Iterable[Pending]
    ) -> None:
        """Whether a request answers a challenge, and is proven; `pending` are those relayed and not answered.

        Raises Deny and Discard.
        """
        value = challenge(request.extensions)
        if value is not None and not _authenticated(request):
            raise Discard("challenge-without-authentication")
        try:
            self._credentials.verify(datagram.payload, request, nai, value)
        except AuthenticationError as error:
            raise Deny(Code.FA_BAD_AAA_AUTHENTICATION, error.reason) from error
        if not self._enabled:
            return
        if value is None:
            if self._nodes.known_as(request.home_address, nai) not in self._nodes:
                raise Deny(Code.FA_MISSING_CHALLENGE)
            return
        if any(each.nai == nai and _repeats(request, datagram, each) for each in pending):
            return
        record = self._records.get(_node(request.home_address, nai)) or _Record()
        link = self._link(datagram.interface).interface
        last, window = record.advertised.get(link), list(self._windows[link])
        if value in (record.used, last):
            raise Deny(Code.FA_STALE_CHALLENGE)
        if value == record.given:
            return
        if value not in window:
            raise Deny(Code.FA_UNKNOWN_CHALLENGE)
        if last in window and window.index(value) < window.index(last):
            raise Deny(Code.FA_STALE_CHALLENGE, "advertised before the last one used")

    def used(self, datagram: Datagram, request: RegistrationRequest, nai: str | None) -> None:
        """A request has passed all checks: its challenge may not be used again (§1.1)."""
        value = challenge(request.extensions)
        if value is None or not self._enabled:
            return
        record = self._record(_node(request.home_address, nai))
        record.used = value
        if value == record.given:
            record.given = None
        link = self._link(datagram.interface).interface
        if value in self._windows[link]:
            record.advertised[link] = value

    def _record(self, node: Peer) -> _Record:
        record = self._records.pop(node, None) or _Record()
        self._records[node] = record
        if len(self._records) > self._capacity:
            self._records.popitem(last=False)
        return record

    def _new(self) -> bytes:
        return self._rng.getrandbits(_BITS).to_bytes(_BITS // 8, "big")


def _node(home_address: IPv4Address, nai: str | None) -> Peer:
    """What a mobile node's challenges are kept by: its home address, or its NAI before it has one."""
    return home_address if nai is None or home_address != UNSPECIFIED else nai


def _authenticated(request: RegistrationRequest) -> bool:
    """Whether a Mobile-AAA or Mobile-Foreign authentication follows the challenge (§3.2)."""
    passed = False
    for extension in request.extensions:
        if extension.type == CHALLENGE:
            passed = True
        elif passed and (extension.type == MOBILE_FOREIGN or is_mobile_aaa(extension)):
            return True
    return False


def _repeats(request: RegistrationRequest, datagram: Datagram, pending: Pending) -> bool:
    """Whether this is the request that is pending, sent again: lifetime and identification may differ."""
    first = pending.request
    return (
        challenge(request.extensions) == challenge(first.extensions)
        and request.flags == first.flags
        and request.home_address == first.home_address
        and request.home_agent == first.home_agent
        and request.care_of_address == first.care_of_address
        and (datagram.link_address, datagram.source_port)
        == (pending.link_address, pending.datagram.source_port)
    )


def wrong_challenge(request: RegistrationRequest, reply: RegistrationReply) -> bool:
    """Whether a home agent returns another challenge than the request has (§3.3); it may return none."""
    return challenge(reply.extensions) not in (None, challenge(request.extensions))
