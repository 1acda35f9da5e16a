"""The requests that a foreign agent has relayed and that await their replies (RFC 5944 §3.7.1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import chain

from testbed.mobileip.core.api import Datagram
from testbed.mobileip.core.disposition import Deny
from testbed.mobileip.core.links import UNSPECIFIED
from testbed.mobileip.core.timers import Timers, lifetime_left
from testbed.mobileip.wire.code import Code
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest
from testbed.mobileip.wire.value import value

PENDING_TIME = 7.0
"""Seconds a request may await its reply (§3.7.1)."""
PENDING_PER_NODE = 5
"""So that one node cannot fill the list."""

_Node = tuple[IPv4Address, str | None]
"""Home address, and NAI if there is one."""
PendingKey = tuple[_Node, int]
"""What a reply is matched by: the mobile node, and the lower half of the identification."""


@value
class Pending:
    """A request relayed to its home agent: the request as it came and the datagram that brought it."""

    request: RegistrationRequest
    datagram: Datagram
    link_address: bytes
    expires: float
    timestamp: int | None = None
    """Of the Revocation Support Extension; None: the request went without."""
    nai: str | None = None
    """The mobile node's, if it gave one (RFC 2794)."""
    overtaken: bool = False
    """Whether a later request of the mobile node was granted meanwhile: what this one asked for is over."""

    @property
    def node(self) -> _Node:
        """The mobile node that sent it."""
        return self.request.home_address, self.nai

    @property
    def low(self) -> int:
        """The lower half of its identification."""
        return self.request.low_identification

    @property
    def key(self) -> PendingKey:
        """What a reply is matched by (§3.7.3.1, RFC 2794 §3)."""
        return self.node, self.low

    def picture(self, now: float) -> dict[str, object]:
        """What `state` reports of it."""
        return {
            "home_address": str(self.request.home_address),
            "nai": self.nai,
            "home_agent": str(self.request.home_agent),
            "lifetime": self.request.lifetime,
            "time_left": lifetime_left(self.expires, now),
        }


class PendingList:
    """Requests by what their replies are matched by, those of each mobile node in the order they came last.

    `capacity` at most.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._nodes: dict[_Node, dict[int, Pending]] = {}  # by the lower half of the identification
        self._timers: Timers[PendingKey] = Timers()

    def __iter__(self) -> Iterator[Pending]:
        return chain.from_iterable(requests.values() for requests in self._nodes.values())

    def has(self, request: RegistrationRequest, nai: str | None) -> bool:
        """Whether the reply to this request is the one awaited by another, of which it is a repetition."""
        return request.low_identification in self._nodes.get((request.home_address, nai), ())

    def check_room(self, request: RegistrationRequest, nai: str | None) -> None:
        """Whether there is room for one more request. Raises Deny."""
        if len(self._timers) >= self._capacity:
            raise Deny(Code.FA_INSUFFICIENT_RESOURCES, "pending list full")
        if len(self._nodes.get((request.home_address, nai), ())) >= PENDING_PER_NODE:
            raise Deny(Code.FA_INSUFFICIENT_RESOURCES, "too many requests of this node pending")

    def add(self, pending: Pending) -> None:
        """A request has been relayed; a repetition replaces it."""
        requests = self._nodes.setdefault(pending.node, {})
        requests.pop(pending.low, None)
        requests[pending.low] = pending
        self._timers.set(pending.key, pending.expires)

    def remove(self, pending: Pending) -> None:
        """A request is answered."""
        self._timers.cancel(pending.key)
        self._take(pending.key)

    def _take(self, key: PendingKey) -> Pending:
        node, low = key
        requests = self._nodes[node]
        pending = requests.pop(low)
        if not requests:
            del self._nodes[node]
        return pending

    def awaiting(self, reply: RegistrationReply, nai: str | None) -> Pending | None:
        """The request that a reply with `nai` answers.

        The home address of the reply was not known where the request had zero (RFC 2794 §3). A reply that
        lacks what it must have, home address or NAI, is matched by the rest.
        """
        low = reply.low_identification
        if (exact := self._nodes.get((reply.home_address, nai), {}).get(low)) is not None:
            return exact
        for each in self:
            asked = each.request.home_address
            same = asked in (reply.home_address, UNSPECIFIED) or reply.home_address == UNSPECIFIED
            if each.low == low and same and (nai is None or each.nai in (nai, None)):
                return each
        return None

    def overtake(self, granted: Pending) -> None:
        """Note those requests of its mobile node that `granted` has overtaken.

        The network may reorder replies: when the reply to a registration comes after the reply to the
        deregistration that followed it, the mobile node is no visitor any more.
        """
        requests = self._nodes[granted.node]
        for low, each in requests.items():
            if each is granted:
                return
            # A request that came before may be later all the same: the network reorders requests, too.
            if each.request.identification < granted.request.identification:
                requests[low] = replace(each, overtaken=True)

    def time_out(self, now: float) -> list[Pending]:
        """Forget and return what has had no reply in time."""
        return [self._take(key) for key in self._timers.pop_due(now)]

    def deadline(self) -> float | None:
        """When the next request times out."""
        return self._timers.next()

    def clear(self) -> None:
        """Forget all."""
        self._nodes.clear()
        self._timers.clear()
