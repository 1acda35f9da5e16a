"""What a topology must fulfil beyond the shape of its parts: names exist, addresses fit, roles agree.

`Checker` collects every error with its place in the file; nothing is raised until all of them are known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Any, get_args

from testbed.claim.claims import check_claims
from testbed.document.functions import Function, Meaning
from testbed.document.marks import Marks, Path
from testbed.document.read import describe, dotted, expected
from testbed.document.values import AddressRange, Expected, not_unicast
from testbed.errors import TopologyError, did_you_mean
from testbed.topology.cast import Cast, Named
from testbed.topology.images import check_images
from testbed.topology.mobility import check_mobility
from testbed.topology.model import Network, Node, OptionScalar, Stack, Topology
from testbed.topology.overrides import Choice
from testbed.topology.roles import Role, Setting

_TAKEN_INTERFACES = re.compile(r"lo|all|default|mip[a-z]*\d+|ipsec\d+|eth\d+")
_STACKS = get_args(Stack)


class Checker:
    """The cross checks of one topology; `errors` is what they found."""

    def __init__(
        self, topology: Topology, roles: Mapping[str, Role], marks: Marks, *, known_roles: Iterable[str]
    ) -> None:
        self.errors: list[TopologyError] = []
        self._topology = topology
        self._roles = roles
        self._known_roles = list(known_roles)
        self._marks = marks
        self._settings: dict[str, dict[str, Any]] = {}
        self._cast = Cast(topology, roles, self._settings)

    def _fail(self, path: Path, message: str, hint: str | None = None, *, key: bool = False) -> None:
        source = self._marks.key(path) if key else self._marks.value(path)
        self.errors.append(TopologyError(f"{dotted(path)}: {message}", hint=hint, source=source))

    def options(self, chosen: Mapping[str, Choice]) -> dict[str, OptionScalar]:
        """Every option's value: the chosen value, else the default; both have to be among the choices."""
        result: dict[str, OptionScalar] = {}
        attachable = {network for node in self._topology.nodes.values() for network in node.attaches}
        for name, option in self._topology.options.items():
            path: Path = ("options", name)
            allowed = [str(one) for one in option.choices or []]
            if not option.allows(option.default):
                wanted = f"expected one of its choices {', '.join(allowed)}, got {describe(option.default)}"
                self._fail((*path, "default"), wanted, _near(option.default, allowed))
            for index, choice in enumerate(option.choices or [option.default]):
                where: Path = (*path, "choices", index) if option.choices else (*path, "default")
                if name == "stack" and choice not in _STACKS:
                    self._fail(
                        where, f"expected one of {', '.join(_STACKS)}, got {choice}", _near(choice, _STACKS)
                    )
                if name == "attach" and choice not in attachable:
                    wanted = f"expected a network that a mobile node attaches to, got {choice}"
                    self._fail(where, wanted, _near(choice, attachable))
            result[name] = option.default
            if name in chosen:
                value, source = chosen[name].value, chosen[name].source
                if not isinstance(value, bool | int | float | str):
                    wanted = f"expected a value, got {describe(value)}"
                    self.errors.append(TopologyError(wanted, source=source))
                elif not option.allows(value):
                    wanted = f"expected one of {', '.join(allowed)}, got {describe(value)}"
                    self.errors.append(TopologyError(wanted, hint=_near(value, allowed), source=source))
                else:
                    result[name] = value
        return result

    def settings(self) -> dict[str, dict[str, Any]]:
        """Every node's settings as its roles declare them, typed and with defaults."""
        for name, node in self._topology.nodes.items():
            self._settings[name] = self._node_settings(name, node)
        return self._settings

    def check(self) -> None:
        """All checks between the parts of a topology; call `settings` first."""
        for name, network in self._topology.networks.items():
            self._check_network(name, network)
        self._check_overlaps()
        owners: dict[IPv4Address, str] = {}
        for name, node in self._topology.nodes.items():
            self._check_roles(name, node)
            self._check_links(name, node, owners)
            self._check_attaches(name, node)
            self._check_routes(name, node)
            self._check_pools(name, node)
        for name in self._topology.place.keys() - self._topology.nodes.keys():
            self._unknown(("place", name), "node", name, self._topology.nodes, key=True)
        self.errors += check_images(self._topology, self._roles, self._marks)
        check_mobility(self._cast, owners, self._fail, self._check_host)
        self._check_configurations()
        check_claims(Named(self._cast), self._fail)

    # Networks

    def _check_network(self, name: str, network: Network) -> None:
        path: Path = ("networks", name)
        if _TAKEN_INTERFACES.fullmatch(name):
            self._fail(path, "the name is taken by an interface that every node may have", key=True)
        subnet = network.subnet
        if subnet.prefixlen > 30:
            self._fail((*path, "subnet"), f"expected room for two nodes, /30 or shorter, got {subnet}")
        if network.hub is None:
            return
        hub = self._topology.nodes.get(network.hub)
        if hub is None:
            self._unknown((*path, "hub"), "node", network.hub, self._topology.nodes)
        elif name not in hub.links:
            self._fail((*path, "hub"), f"{network.hub} is not linked to {name}", "give it an address there")
        elif not self._cast.acts_as(network.hub, Function.HUB):
            hint = f"add {Function.HUB} to its roles"
            self._fail((*path, "hub"), f"{network.hub} does not have the role {Function.HUB}", hint)

    def _check_overlaps(self) -> None:
        seen: list[tuple[str, IPv4Network]] = []
        for name, network in self._topology.networks.items():
            alike = [each for each in seen if network.subnet.overlaps(each[1])]
            others = [each for each in alike if not self._cast.apart(name, each[0])]
            self._overlap(("networks", name, "subnet"), network.subnet, others)
            seen.append((name, network.subnet))
        for name in self._topology.nodes:
            for meaning, prefix in self._cast.owned_prefixes(name).items():
                path = self._setting_path(name, meaning)
                self._overlap(path, prefix, seen)
                seen.append((f"{path[-1]} of {name}", prefix))

    def _overlap(self, path: Path, prefix: IPv4Network, seen: list[tuple[str, IPv4Network]]) -> None:
        if taken := not_unicast(prefix):
            hint = f"{taken} is not for hosts (RFC 6890); 10.0.0.0/8 and 192.0.2.0/24 are for such use"
            self._fail(path, f"expected a prefix of unicast addresses, got {prefix}", hint)
        for other, taken in seen:
            if prefix.overlaps(taken):
                self._fail(path, f"{prefix} overlaps {taken} of {other}", "give each a prefix of its own")
                return

    # Nodes

    def _check_roles(self, name: str, node: Node) -> None:
        for index, role in enumerate(node.roles):
            path: Path = ("nodes", name, "roles", index)
            if role in node.roles[:index]:
                self._fail(path, f"the role {role} is given twice", "leave one out")
            elif role not in self._known_roles:
                self._unknown(path, "role", role, self._known_roles)
            elif role in self._roles:
                for needed in self._roles[role].needs:
                    if not self._cast.acts_as(name, needed):
                        self._fail(
                            path, f"the role {role} needs the role {needed}", f"add {needed} to the roles"
                        )
                for needed in self._roles[role].topology_needs:
                    if not self._cast.with_role(needed):
                        hint = f"give a node the role {needed}"
                        self._fail(path, f"a {role} needs a node with the role {needed}", hint)
                for needed in sorted({*self._roles[role].topology_options} - self._topology.options.keys()):
                    hint = f"options: {{{needed}: {{default: …}}}}"
                    self._fail(path, f"a {role} needs the option {needed}", hint)

    def _check_links(self, name: str, node: Node, owners: dict[IPv4Address, str]) -> None:
        if name == "localhost":
            self._fail(("nodes", name), "every machine calls itself so", "choose another name", key=True)
        if not node.links and not node.attaches:
            hint = "add links: {NETWORK: ADDRESS}, or attaches: [NETWORK] for a mobile node"
            self._fail(("nodes", name), "linked to no network", hint, key=True)
        for network, address in node.links.items():
            path: Path = ("nodes", name, "links", network)
            if network not in self._topology.networks:
                self._unknown(path, "network", network, self._topology.networks, key=True)
                continue
            self._check_host(path, address, self._topology.networks[network].subnet, f"subnet of {network}")
            other = owners.setdefault(address, name)
            if other != name and not any(
                self._cast.apart(network, each) for each in self._topology.nodes[other].links
            ):
                self._fail(path, f"{address} is already the address of {other}")

    def _check_host(self, path: Path, address: IPv4Address, subnet: IPv4Network, what: str) -> None:
        if address not in subnet:
            self._fail(path, f"expected an address in {subnet}, the {what}, got {address}")
        elif address == subnet.network_address and subnet.prefixlen < 31:
            self._fail(
                path, f"{address} is the network address of {subnet}", f"the first host is {subnet[1]}"
            )
        elif address == subnet.broadcast_address and subnet.prefixlen < 31:
            self._fail(
                path, f"{address} is the broadcast address of {subnet}", f"the last host is {subnet[-2]}"
            )

    def _check_attaches(self, name: str, node: Node) -> None:
        for index, network in enumerate(node.attaches):
            path: Path = ("nodes", name, "attaches", index)
            if network not in self._topology.networks:
                self._unknown(path, "network", network, self._topology.networks)
            elif network in node.attaches[:index]:
                self._fail(path, f"{network} is listed twice", "leave one out")
            elif network in node.links:
                self._fail(
                    path,
                    f"{name} is already linked to {network}",
                    "a network is either linked or attached to",
                )
        mobile = self._cast.acts_as(name, Function.MOBILE_NODE)
        if node.attaches and not mobile:
            self._fail(
                ("nodes", name, "attaches"), "only a mobile node attaches to networks", "use links", key=True
            )
        elif mobile and not node.attaches:
            hint = "add attaches: [NETWORK, …], the networks it can move between"
            self._fail(("nodes", name), "a mobile node needs networks to attach to", hint, key=True)

    def _check_routes(self, name: str, node: Node) -> None:
        for prefix, hop in node.routes.items():
            written = next(
                (p for p in (str(prefix), "default") if self._has(("nodes", name, "routes", p))), ""
            )
            path: Path = ("nodes", name, "routes", written)
            links = [
                self._topology.networks[link].subnet for link in node.links if link in self._topology.networks
            ]
            if not any(hop in subnet for subnet in links):
                self._fail(path, f"expected a next hop on a link of {name}, got {hop}")
            elif hop in node.links.values():
                self._fail(path, f"the next hop {hop} is {name} itself")

    def _check_pools(self, name: str, node: Node) -> None:
        pool: AddressRange | None = self._cast.meant(name, Meaning.DHCP_POOL)
        if pool is None:
            return
        path = self._setting_path(name, Meaning.DHCP_POOL)
        subnets = {n: self._topology.networks[n].subnet for n in node.links if n in self._topology.networks}
        home = next(
            (n for n, subnet in subnets.items() if pool.first in subnet and pool.last in subnet), None
        )
        if home is None:
            links = ", ".join(f"{subnet} ({n})" for n, subnet in subnets.items())
            self._fail(path, f"expected a range inside a link of {name}: {links}; got {pool}")
            return
        subnet = subnets[home]
        taken = {subnet.network_address: "network", subnet.broadcast_address: "broadcast"}
        taken |= {address: other for other, address in self._topology.linked(home).items()}
        if inside := [f"{address} ({taken[address]})" for address in sorted(taken) if address in pool]:
            self._fail(path, f"{pool} contains addresses that are taken: {', '.join(inside)}")

    # Settings

    def _node_settings(self, name: str, node: Node) -> dict[str, Any]:
        roles = [self._roles[role] for role in dict.fromkeys(node.roles) if role in self._roles]
        declared: dict[str, tuple[Role, Setting]] = {}
        for role in roles:
            for key, setting in role.settings.items():
                first, known = declared.setdefault(key, (role, setting))
                if known.type != setting.type:
                    self._fail(
                        ("nodes", name, "roles"),
                        f"setting {key}: {known.type} for {first.name}, but {setting.type} for {role.name}",
                    )
        result: dict[str, Any] = {}
        for key, (role, setting) in declared.items():
            result[key] = setting.default
            if node.settings.get(key) is not None:
                result[key] = self._setting(
                    ("nodes", name, "settings", key), node, setting, node.settings[key]
                )
            elif setting.required:
                self._missing(name, role, key, setting)
        if len(roles) == len(set(node.roles)):
            for key in node.settings.keys() - declared.keys():
                what = f"the role{'s' if len(roles) > 1 else ''} {', '.join(node.roles)}"
                hint = did_you_mean(key, declared) or "leave it out"
                self._fail(("nodes", name, "settings", key), f"unknown to {what}", hint, key=True)
        return result

    def _missing(self, name: str, role: Role, key: str, setting: Setting) -> None:
        path: Path = (
            ("nodes", name, "settings") if self._has(("nodes", name, "settings")) else ("nodes", name)
        )
        about = f" ({setting.help[0].lower()}{setting.help[1:]})" if setting.help else ""
        owners = self._cast.with_role(setting.role) if setting.role else ()
        example = owners[0] if owners else setting.type.upper()
        self._fail(
            path,
            f"the role {role.name} needs the setting {key}{about}",
            f"settings: {{{key}: {example}}}",
            key=True,
        )

    def _setting(self, path: Path, node: Node, setting: Setting, value: Any) -> Any:
        try:
            result = setting.parse(value)
        except Expected as error:
            self.errors.append(expected(path, self._marks, error, value))
            return None
        if not setting.several:
            return self._named(path, node, setting, result)
        named = tuple(
            self._named((*path, index) if isinstance(value, list) else path, node, setting, one)
            for index, one in enumerate(result)
        )
        for index, one in enumerate(result):
            if one in result[:index]:
                self._fail((*path, index), f"{one} is listed twice", "leave one out")
        return None if None in named else named

    def _named(self, path: Path, node: Node, setting: Setting, result: Any) -> Any:
        """A value that names a network or a node, if there is one of the name; None else."""
        if setting.type == "network":
            if result not in self._topology.networks:
                self._unknown(path, "network", result, self._topology.networks)
                return None
            if result not in node.networks:
                hint = did_you_mean(result, node.networks)
                self._fail(path, f"expected a network of {path[1]}, which is not on {result}", hint)
        elif setting.type == "node":
            if result not in self._topology.nodes:
                self._unknown(path, "node", result, self._topology.nodes)
                return None
            if setting.role and not self._cast.acts_as(result, setting.role):
                self._fail(
                    path,
                    f"expected a node with the role {setting.role}, got {result}",
                    did_you_mean(result, self._cast.with_role(setting.role)),
                )
                return None
        return result

    def _check_configurations(self) -> None:
        attachable = {network for node in self._topology.nodes.values() for network in node.attaches}
        stack = self._topology.options.get("stack")
        for index, one in enumerate(self._topology.configurations):
            path: Path = ("configurations", index)
            if stack and stack.choices and one.stack not in stack.choices:
                choices = [str(choice) for choice in stack.choices]
                wanted = (
                    f"expected one of the choices of option stack ({', '.join(choices)}), got {one.stack}"
                )
                self._fail((*path, "stack"), wanted, _near(one.stack, choices))
            role = Function.FOREIGN_AGENT if one.attachment == "foreign-agent" else Function.DHCP_SERVER
            for place, network in enumerate(one.networks):
                where: Path = (*path, "networks", place)
                if network not in self._topology.networks:
                    self._unknown(where, "network", network, self._topology.networks)
                elif network not in attachable:
                    wanted = f"expected a network that a mobile node attaches to, got {network}"
                    self._fail(where, wanted, _near(network, attachable))
                elif not any(self._cast.acts_as(n, role) for n in self._topology.linked(network)):
                    self._fail(where, f"{one.attachment} needs a {role} on {network}", f"link a {role} to it")

    # Helpers

    def _setting_path(self, name: str, meaning: Meaning) -> Path:
        return ("nodes", name, "settings", self._cast.written_as(name, meaning))

    def _has(self, path: Path) -> bool:
        return path in self._marks.at

    def _unknown(self, path: Path, kind: str, name: str, known: Iterable[str], *, key: bool = False) -> None:
        self._fail(path, f"unknown {kind} {name}", did_you_mean(name, known), key=key)


def _near(value: object, known: Iterable[str]) -> str | None:
    """A hint only if a known name is near; the message has listed them all."""
    hint = did_you_mean(str(value), known)
    return hint if hint and hint.startswith("did") else None
