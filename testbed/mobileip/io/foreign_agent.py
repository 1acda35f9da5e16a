"""The foreign agent's visitors: routes, neighbours, rules and tunnels (RFC 5944 §4.2.2, RFC 3024 §5.1)."""

from __future__ import annotations

import re
from ipaddress import IPv4Address

from testbed.mobileip.core.api import Effect
from testbed.mobileip.core.foreign.config import ForeignAgentConfig
from testbed.mobileip.core.foreign.effects import ClearVisitor, SetVisitor
from testbed.mobileip.io.changes import DEFAULT, MAIN, Rule
from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.io.instance import FOREIGN_AGENT_TABLE
from testbed.mobileip.io.journal import log
from testbed.mobileip.io.link_filter import LinkFilter
from testbed.mobileip.io.netlink import Netlink
from testbed.mobileip.io.role import Role
from testbed.mobileip.tunnel.api import DataPlane, Tunnel

VISITOR, NEIGHBOUR, STRANGER = 100, 190, 200
"""Preferences of the rules for what comes from the visited link."""
TUNNELLED = 150
"""Preference of the rules for what comes out of the tunnel: to a visitor, before IPsec's rules (220)."""


class ForeignAgentRole(Role):
    """Forwards for registered visitors, and for nobody else on the visited link."""

    def __init__(
        self,
        config: ForeignAgentConfig,
        netlink: Netlink,
        plane: DataPlane,
        table: int = FOREIGN_AGENT_TABLE,
    ) -> None:
        """`table` has the routes of those with the first tunnel device, the next table the second's."""
        super().__init__(netlink, plane)
        self._table = table
        self.watched = self.listens = tuple(link.interface for link in config.links)
        self._config = config
        self._filters: dict[str, LinkFilter] = {}
        self._visitors: dict[IPv4Address, tuple[SetVisitor, list[Rule]]] = {}
        self._rules = []
        for link in config.links:
            self._rules.append(Rule(STRANGER, None, interface=link.interface))
            if not config.registration_required and link.prefix is not None:
                # Advertised as Code 0 (§2.1): addresses of the link are forwarded for, as by any router.
                self._rules.append(Rule(NEIGHBOUR, MAIN, source=link.prefix, interface=link.interface))

    def start(self) -> None:
        """Refuse what comes from the visited links, too."""
        super().start()
        for interface in self.watched:
            for address in self._netlink.fixed_neighbours(interface):
                self._netlink.delete_neighbour(interface, address)
        for rule in self._rules:
            self._netlink.add_rule(rule)
        try:
            for interface in self.watched:
                self._filters[interface] = LinkFilter(interface)
        except NodeError as error:
            log(f"{error}: what others send from a visitor's address is forwarded, too")

    def apply(self, effect: Effect) -> None:
        """Carry out SetVisitor and ClearVisitor."""
        if isinstance(effect, SetVisitor):
            self._set(effect)
        elif isinstance(effect, ClearVisitor):
            self._clear(effect.home_address)

    def _set(self, visitor: SetVisitor) -> None:
        known = self._visitors.get(visitor.home_address)
        if known is not None and known[0] == visitor:
            return  # a renewal
        address = visitor.home_address
        for neighbour in _neighbours(visitor, self._config):
            self._netlink.set_neighbour(*neighbour, visitor.link_address)
        if not self._config.home_agents_here:
            self._netlink.set_route(address, visitor.interface)
        table = MAIN
        rules = []
        if not _co_located(visitor, self._config):  # else it is itself the end of the tunnel
            end = (visitor.home_agent,)
            device = self.plane.set(Tunnel(address, visitor.care_of_address, end, delivery=visitor.delivery))
            own_table = self._table + int(re.sub(r"\D", "", device))
            delivery = MAIN
            if self._config.home_agents_here:
                # The table main is theirs: they know where a mobile node went that has left this link, and
                # their routes lead back into the tunnel.
                delivery = own_table
                self._netlink.set_route(address, visitor.interface, table=own_table)
            rules.append(Rule(TUNNELLED, delivery, destination=address, interface=device))
            # RFC 3024 §5.2.1: what comes as it is, although delivery is encapsulating, is never tunnelled.
            if visitor.reverse_tunnel and visitor.delivery is None:
                table = own_table
                self._netlink.set_route(DEFAULT, device, table=own_table)
        rules.append(Rule(VISITOR, table, source=address, interface=visitor.interface))
        if _co_located(visitor, self._config):
            # What it tunnels itself, and what it sends from there untunnelled (§4.2.2).
            rules.append(Rule(VISITOR, MAIN, source=visitor.care_of_address, interface=visitor.interface))
        for rule in rules:
            self._netlink.add_rule(rule)
        if known is not None:
            for rule in {*known[1]} - {*rules}:
                self._netlink.delete_rule(rule)
            for left in _tables(known[1]) - _tables(rules):
                self._netlink.delete_route(address, table=left)
            for neighbour in _neighbours(known[0], self._config) - _neighbours(visitor, self._config):
                self._netlink.delete_neighbour(*neighbour)
        self.plane.settled(address)
        self._visitors[address] = (visitor, rules)
        self._check_senders(known and known[0], visitor)

    def _clear(self, address: IPv4Address) -> None:
        known = self._visitors.pop(address, None)
        if known is None:
            return
        visitor, rules = known
        for rule in rules:
            self._netlink.delete_rule(rule)
        for table in {MAIN} | _tables(rules):
            self._netlink.delete_route(address, table=table)
        for neighbour in _neighbours(visitor, self._config):
            self._netlink.delete_neighbour(*neighbour)
        self.plane.remove(address)
        self._check_senders(visitor, None)

    def _check_senders(self, before: SetVisitor | None, after: SetVisitor | None) -> None:
        """Forward for a visitor only what came from its link address (RFC 3024 §6.1)."""
        for interface, link_filter in self._filters.items():
            link_filter.replace(
                *(
                    {(own, each.link_address) for _, own in _neighbours(each, self._config)}
                    if each and each.interface == interface
                    else ()
                    for each in (before, after)
                )
            )

    def stop(self) -> None:
        """Remove the visitors and the rule that keeps strangers out."""
        for address in list(self._visitors):
            self._clear(address)
        for link_filter in self._filters.values():
            link_filter.close()
        self._netlink.clean()


def _co_located(visitor: SetVisitor, config: ForeignAgentConfig) -> bool:
    return visitor.care_of_address not in config.care_of_addresses


def _neighbours(visitor: SetVisitor, config: ForeignAgentConfig) -> set[tuple[str, IPv4Address]]:
    """The addresses of a visitor on its link, for which broadcasting ARP is forbidden (§4.2.2)."""
    own = {visitor.home_address, *([visitor.care_of_address] if _co_located(visitor, config) else ())}
    return {(visitor.interface, address) for address in own}


def _tables(rules: list[Rule]) -> set[int]:
    """Where what comes out of a visitor's tunnel is looked up."""
    return {rule.table for rule in rules if rule.preference == TUNNELLED and rule.table is not None}
