"""The home agent between its home link and the mobile nodes away: broadcasts and multicast.

RFC 5944 §4.3, §4.4, RFC 3024 §5.3. A mobile node that has a reverse tunnel joins groups by IGMP messages in
it; towards the home link the home agent is a member in its place, as a proxy (RFC 4605).
"""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address

from testbed.mobileip.core.api import Record, SendOnHomeLink
from testbed.mobileip.core.home.bindings import Binding, BindingTable
from testbed.mobileip.core.home.broadcasts import Broadcasts
from testbed.mobileip.core.home.config import HomeAgentConfig
from testbed.mobileip.core.home.effects import SetGroups
from testbed.mobileip.core.outbox import Outbox
from testbed.mobileip.core.timers import Timers
from testbed.mobileip.wire import igmp
from testbed.mobileip.wire.error import WireError

QUERY_INTERVAL = 125
"""Seconds between two queries to a member, and between queries in general (RFC 3376 §8.2)."""
MEMBERSHIP = 260.0
"""Seconds that a membership lasts without a report (RFC 3376 §8.4)."""
GROUPS_PER_NODE, GROUPS = 16, 128
"""So that nobody fills the list."""


class HomeMulticast:
    """Who gets what is sent to everybody or to a group; asks the shell for groups of the home link."""

    def __init__(
        self, config: HomeAgentConfig, bindings: BindingTable, out: Outbox, counters: Counter[str]
    ) -> None:
        self._config = config
        self._bindings = bindings
        self._out = out
        self._broadcasts = Broadcasts(config.address, counters)
        self._groups: dict[IPv4Address, list[IPv4Address]] = {}  # the groups of each mobile node
        self._members: dict[IPv4Address, set[IPv4Address]] = {}  # the mobile nodes of each group
        self._ends: Timers[tuple[IPv4Address, IPv4Address]] = Timers()
        self._queries: Timers[IPv4Address] = Timers()

    def heard(self, datagram: bytes, now: float) -> None:
        """Take what was sent on the home link to everybody or to a group.

        On a virtual home network there is nothing: the B bit is ignored then (RFC 5944 §3.8.2).
        """
        self._forward(datagram, None, now)

    def tunnelled(self, datagram: bytes, now: float) -> IPv4Address | None:
        """Take what a mobile node has tunnelled to everybody or to a group.

        Returns the home address of who has other memberships now. Nothing happens without a home link.
        """
        source = IPv4Address(datagram[12:16])
        if self._config.home_interface is None or not self._may_send(source):
            return None
        if datagram[9] == igmp.PROTOCOL:
            return source if self._report(source, datagram, now) else None
        if self._forward(datagram, source, now):
            self._out.add(SendOnHomeLink(datagram))
        return None

    def record(self, home_address: IPv4Address) -> Record:
        """What `restore` makes the same of, in another process: nothing without a membership."""
        groups = self._groups.get(home_address)
        return {"groups": [str(group) for group in groups]} if groups else {}

    def restore(self, home_address: IPv4Address, record: Record, now: float) -> None:
        """Take up the memberships that a predecessor knew; raises ValueError or TypeError for nonsense."""
        for group in record.get("groups", ()):
            self._join(home_address, IPv4Address(group), now)
        self._report_groups(frozenset())

    def changed(self, home_address: IPv4Address) -> None:
        """The bindings of a mobile node have changed: without a reverse tunnel it is in no group."""
        if home_address in self._groups and not self._may_send(home_address):
            before = frozenset(self._members)
            for group in tuple(self._groups[home_address]):
                self._leave(home_address, group)
            self._report_groups(before)

    def tick(self, now: float) -> list[IPv4Address]:
        """Query members, and end memberships; returns the home addresses of whose."""
        for home_address in self._queries.pop_due(now):
            if home_address not in self._groups:
                continue
            query = igmp.general_query(self._config.address, QUERY_INTERVAL)
            self._out.add(*self._broadcasts.send(query, home_address, self._tunnels(home_address)))
            self._queries.set(home_address, now + QUERY_INTERVAL)
        before, over = frozenset(self._members), self._ends.pop_due(now)
        for home_address, group in over:
            self._leave(home_address, group)
        self._report_groups(before)
        return [home_address for home_address, _ in over]

    def deadline(self) -> float | None:
        """The next `now` at which `tick` has something to do."""
        due = self._queries.next(), self._ends.next()
        return min((when for when in due if when is not None), default=None)

    def picture(self) -> dict[str, list[str]]:
        """The members of each group."""
        return {str(group): sorted(map(str, members)) for group, members in sorted(self._members.items())}

    def _may_send(self, home_address: IPv4Address) -> bool:
        return any(binding.reverse_tunnel for binding in self._bindings.of(home_address))

    def _tunnels(self, home_address: IPv4Address) -> list[Binding]:
        return [binding for binding in self._bindings.of(home_address) if binding.reverse_tunnel]

    def _forward(self, datagram: bytes, sender: IPv4Address | None, now: float) -> bool:
        """Send a datagram to all that want it but its sender; whether the rate permits that."""
        destination = IPv4Address(datagram[16:20])
        if destination.is_multicast:
            nodes = [(each, self._tunnels(each)) for each in self._members.get(destination, ())]
        else:
            nodes = [
                (each, [binding for binding in bindings if binding.broadcasts])
                for each, bindings in self._bindings.with_broadcasts()
            ]
        others = [(each, bindings) for each, bindings in nodes if each != sender]
        if not others and sender is None:
            return True
        effects = self._broadcasts.forward(datagram, others, now)
        self._out.add(*(effects or ()))
        return effects is not None

    # Memberships

    def _report(self, home_address: IPv4Address, datagram: bytes, now: float) -> bool:
        try:
            reported = igmp.memberships(datagram)
        except WireError:
            return False
        before, earlier = frozenset(self._members), self.record(home_address)
        for group, joins in reported:
            if joins:
                self._join(home_address, group, now)
            else:
                self._leave(home_address, group)
        self._report_groups(before)
        return self.record(home_address) != earlier

    def _join(self, home_address: IPv4Address, group: IPv4Address, now: float) -> None:
        groups = self._groups.setdefault(home_address, [])
        if group not in groups:
            if len(groups) >= GROUPS_PER_NODE or (
                group not in self._members and len(self._members) >= GROUPS
            ):
                return
            groups.append(group)
            self._members.setdefault(group, set()).add(home_address)
            self._out.event("group-joined", home_address=str(home_address), group=str(group))
        self._ends.set((home_address, group), now + MEMBERSHIP)
        if home_address not in self._queries:
            self._queries.set(home_address, now + QUERY_INTERVAL)

    def _leave(self, home_address: IPv4Address, group: IPv4Address) -> None:
        groups = self._groups.get(home_address, [])
        if group not in groups:
            return
        groups.remove(group)
        self._members[group].discard(home_address)
        if not self._members[group]:
            del self._members[group]
        if not groups:
            del self._groups[home_address]
            self._queries.cancel(home_address)
        self._ends.cancel((home_address, group))
        self._out.event("group-left", home_address=str(home_address), group=str(group))

    def _report_groups(self, before: frozenset[IPv4Address]) -> None:
        if (after := frozenset(self._members)) != before:
            self._out.add(SetGroups(after))
