"""The foreign agent's visitors: routes, neighbours, rules and tunnels (RFC 5944 §4.2.2, RFC 3024 §5.1)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from testbed.mobileip.core.api import ClearVisitor, Effect, SetVisitor
from testbed.mobileip.core.parameters import ForeignAgentConfig
from testbed.mobileip.io.changes import DEFAULT, MAIN, Rule
from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.io.journal import log
from testbed.mobileip.io.link_filter import LinkFilter
from testbed.mobileip.io.netlink import Netlink
from testbed.mobileip.io.role import Role
from testbed.mobileip.tunnel.api import DataPlane, Tunnel

REVERSE_TABLE = 435
"""The routes of those whose packets are tunnelled back; of the device mip0, 436 of mip1 and so on."""
VISITOR, NEIGHBOUR, STRANGER = 100, 190, 200
"""Preferences of the rules for what comes from the visited link."""
TUNNELLED = 150
"""Preference of the rules for what comes out of the tunnel: to a visitor, before IPsec's rules (220)."""


class ForeignAgentRole(Role):
    """Forwards for registered visitors, and for nobody else on the visited link."""

    def __init__(self, config: ForeignAgentConfig, netlink: Netlink, plane: DataPlane) -> None:
        super().__init__(netlink, plane)
        self.watched = config.interface
        self.listens = (config.interface,)
        self._config = config
        self._filter: LinkFilter | None = None
        self._visitors: dict[IPv4Address, tuple[SetVisitor, list[Rule]]] = {}
        self._rules = [Rule(STRANGER, None, interface=config.interface)]
        if not config.registration_required and config.prefix is not None:
            # Advertised as Code 0 (§2.1): what has an address of the link is forwarded for, as by any router.
            self._rules.append(Rule(NEIGHBOUR, MAIN, source=config.prefix, interface=config.interface))

    def start(self) -> None:
        """Refuse what comes from the visited link, too."""
        super().start()
        for address in self._netlink.fixed_neighbours(self._config.interface):
            self._netlink.delete_neighbour(self._config.interface, address)
        for rule in self._rules:
            self._netlink.add_rule(rule)
        try:
            self._filter = LinkFilter(self._config.interface)
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
        for own in _addresses(visitor, self._config):
            self._netlink.set_neighbour(visitor.interface, own, visitor.link_address)
        self._netlink.set_route(IPv4Network(address), visitor.interface)
        table = MAIN
        rules = []
        if not _co_located(visitor, self._config):  # else it is itself the end of the tunnel
            device = self.plane.set(Tunnel(address, visitor.care_of_address, (visitor.home_agent,)))
            rules.append(Rule(TUNNELLED, MAIN, destination=address, interface=device))
            if visitor.reverse_tunnel:
                table = REVERSE_TABLE + int(device.removeprefix("mip"))
                self._netlink.set_route(DEFAULT, device, table=table)
        rules.append(Rule(VISITOR, table, source=address, interface=visitor.interface))
        if _co_located(visitor, self._config):
            # What it tunnels itself, and what it sends from there untunnelled (§4.2.2).
            rules.append(Rule(VISITOR, MAIN, source=visitor.care_of_address, interface=visitor.interface))
        for rule in rules:
            self._netlink.add_rule(rule)
        for rule in known[1] if known is not None else ():
            if rule not in rules:
                self._netlink.delete_rule(rule)
        for own in _addresses(known[0], self._config) - _addresses(visitor, self._config) if known else ():
            self._netlink.delete_neighbour(visitor.interface, own)
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
        self._netlink.delete_route(IPv4Network(address))
        for own in _addresses(visitor, self._config):
            self._netlink.delete_neighbour(visitor.interface, own)
        self.plane.remove(address)
        self._check_senders(visitor, None)

    def _check_senders(self, before: SetVisitor | None, after: SetVisitor | None) -> None:
        """Forward for a visitor only what came from its link address (RFC 3024 §6.1)."""
        if self._filter is not None:
            self._filter.replace(
                *(
                    {(address, each.link_address) for address in _addresses(each, self._config)}
                    if each
                    else ()
                    for each in (before, after)
                )
            )

    def stop(self) -> None:
        """Remove the visitors and the rule that keeps strangers out."""
        for address in list(self._visitors):
            self._clear(address)
        if self._filter is not None:
            self._filter.close()
        self._netlink.clean()


def _co_located(visitor: SetVisitor, config: ForeignAgentConfig) -> bool:
    return visitor.care_of_address != config.care_of


def _addresses(visitor: SetVisitor, config: ForeignAgentConfig) -> set[IPv4Address]:
    """The addresses of a visitor on the link, for which broadcasting ARP is forbidden (§4.2.2)."""
    return {visitor.home_address, *([visitor.care_of_address] if _co_located(visitor, config) else ())}
