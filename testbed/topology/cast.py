"""The roles of a topology's nodes, asked by what they declare: functions, meanings of settings, properties.

Everything after the checks asks these questions in place of names of roles and settings, so that a user's
role that `acts-as` a built-in one, and calls its settings as it likes, is taken wherever that one is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network
from itertools import islice
from typing import Any

from testbed.document.functions import STATIC, Meaning
from testbed.document.values import Expected
from testbed.topology.model import Topology
from testbed.topology.roles import Role, Service, builtin_roles


@dataclass(frozen=True)
class Cast:
    """A topology, the manifests of its nodes' roles, and the nodes' settings."""

    topology: Topology
    roles: Mapping[str, Role]
    """Every role that a node of this topology has, by name; those without a manifest are left out."""
    settings: Mapping[str, Mapping[str, Any]]
    """Node → every setting that its roles declare, typed as `roles.Setting` says; None where absent."""

    @classmethod
    def of(cls, topology: Topology, roles: Mapping[str, Role] | None = None) -> Cast:
        """Of a topology that nothing was checked of; without `roles` the built-in ones are known.

        A setting that its role cannot read is absent.
        """
        known = builtin_roles() if roles is None else roles
        bare = cls(topology, known, {})
        settings: dict[str, dict[str, Any]] = {}
        for name, node in topology.nodes.items():
            found = settings[name] = {}
            for role in bare.node_roles(name):
                for key, setting in role.settings.items():
                    try:
                        found[key] = setting.parse(node.settings[key])
                    except (KeyError, Expected):
                        found.setdefault(key, setting.default)
        return cls(topology, known, settings)

    def node_roles(self, name: str) -> tuple[Role, ...]:
        """The roles of a node, in the order they are written."""
        return self._node_roles[name]

    @cached_property
    def _node_roles(self) -> Mapping[str, tuple[Role, ...]]:
        """The roles of every node: nothing else is asked for as often."""
        return {
            name: tuple(self.roles[role] for role in node.roles if role in self.roles)
            for name, node in self.topology.nodes.items()
        }

    # Functions and properties

    def functions(self, name: str) -> tuple[str, ...]:
        """The roles of a node and all that these act as."""
        return self._functions[name]

    @cached_property
    def _functions(self) -> Mapping[str, tuple[str, ...]]:
        found = {}
        for name, node in self.topology.nodes.items():
            also = [other for role in self.node_roles(name) for other in role.acts_as]
            found[name] = tuple(dict.fromkeys([*node.roles, *also]))
        return found

    def acts_as(self, name: str, role: str) -> bool:
        """Whether a node has a role, or one that acts as it."""
        return role in self.functions(name)

    def with_role(self, role: str) -> tuple[str, ...]:
        """The nodes that have a role, or one that acts as it."""
        return tuple(name for name in self.topology.nodes if self.acts_as(name, role))

    def forwards(self, name: str) -> bool:
        """Whether a node forwards packets between its interfaces."""
        return any(role.forwards for role in self.node_roles(name))

    def routing(self, name: str) -> str | None:
        """How a router knows its routes: the protocol it speaks, else `static`; None for other nodes."""
        found = [role.routing for role in self.node_roles(name) if role.routing]
        return next((one for one in found if one != STATIC), found[0] if found else None)

    def learns_routes(self, name: str) -> bool:
        """Whether a node learns the Intranet's prefixes from its neighbours."""
        return self.routing(name) not in (None, STATIC)

    def services(self, name: str) -> frozenset[str]:
        """The names of a node's services."""
        return frozenset(service for role in self.node_roles(name) for service in role.services)

    def daemons(self, name: str) -> tuple[Service, ...]:
        """The services of a node."""
        return tuple(service for role in self.node_roles(name) for service in role.services.values())

    def reporting(self, name: str, what: str) -> tuple[Service, ...]:
        """The services of a node in whose state observers may read something (`counters`, `backend` …)."""
        return tuple(service for service in self.daemons(name) if what in service.state)

    # Settings

    def written_as(self, name: str, meaning: Meaning) -> str:
        """The key of the setting that means something: a key that a node gives, else any that it could give.

        Where its roles have none, what a built-in role would call it.
        """
        keys = self.keys(name, meaning)
        given = [key for key in keys if self.settings[name].get(key) is not None]
        return next(iter([*given, *keys]), str(meaning))

    def keys(self, name: str, meaning: Meaning) -> Sequence[str]:
        """The settings of a node's roles that mean something, given or not."""
        return self._keys[name].get(meaning, ())

    @cached_property
    def _keys(self) -> Mapping[str, Mapping[Meaning, Sequence[str]]]:
        """Node → meaning → the settings of its roles that mean it."""
        found: dict[str, dict[Meaning, list[str]]] = {}
        for name in self.topology.nodes:
            meant = found[name] = {}
            for role in self.node_roles(name):
                for key, setting in role.settings.items():
                    if setting.means is not None:
                        meant.setdefault(setting.means, []).append(key)
        return found

    def meant(self, name: str, meaning: Meaning) -> Any:
        """The value that a node gives to what is meant; None where it gives none."""
        values = (self.settings[name].get(key) for key in self.keys(name, meaning))
        return next((value for value in values if value is not None), None)

    def home_address(self, name: str) -> IPv4Address | None:
        """The home address of a mobile node: written, else the one of its rank in its home agent's pool."""
        address: IPv4Address | None = self.meant(name, Meaning.HOME_ADDRESS)
        if address is not None or self.meant(name, Meaning.NAI) is None:
            return address
        agent = self.home_agent(name)
        known = agent in self.topology.nodes
        pool: IPv4Network | None = self.meant(agent, Meaning.HOME_POOL) if agent and known else None
        rank = [other for other in self.topology.nodes if self._assigned(other, agent)].index(name)
        return None if pool is None else next(islice(pool.hosts(), rank, None), None)

    def _assigned(self, name: str, agent: str | None) -> bool:
        """Whether a home agent takes the home address of a mobile node from its pool."""
        unwritten = self.meant(name, Meaning.HOME_ADDRESS) is None
        return unwritten and self.meant(name, Meaning.NAI) is not None and self.home_agent(name) == agent

    def home_agent(self, name: str) -> str | None:
        """The home agent of a mobile node."""
        agent: str | None = self.meant(name, Meaning.HOME_AGENT)
        return agent

    def home_agents(self, name: str) -> tuple[str, ...]:
        """The home agents of a mobile node: its own, and the others that it asks in turn."""
        own, others = self.home_agent(name), self.meant(name, Meaning.FALLBACK_AGENTS)
        return (*([own] if own else []), *_several(others))

    def visited(self, name: str) -> tuple[str, ...]:
        """The links that a foreign agent serves."""
        return _several(self.meant(name, Meaning.VISITED))

    def care_of(self, name: str) -> tuple[str, ...]:
        """The links whose addresses are the care-of addresses of a foreign agent."""
        return _several(self.meant(name, Meaning.CARE_OF))

    def agent_link(self, name: str) -> str:
        """The link whose address mobile nodes register at, unless the stack keeps it to the Intranet."""
        asked = (self.meant(name, one) for one in (Meaning.AGENT_LINK, Meaning.HOME_NETWORK))
        return next((one for one in asked if one is not None), next(iter(self.topology.nodes[name].links)))

    def correspondent(self, name: str) -> str | None:
        """The node that a mobile node speaks to, to see that a hand-off has ended."""
        node: str | None = self.meant(name, Meaning.CORRESPONDENT)
        return node

    def home_link(self, name: str) -> str | None:
        """The home network of a mobile node; None where it is a virtual one."""
        agent = self.home_agent(name)
        link: str | None = self.meant(agent, Meaning.HOME_NETWORK) if agent in self.topology.nodes else None
        return link

    def home_prefix(self, agent: str) -> IPv4Network | None:
        """The prefix of the home network that a home agent serves, real or virtual."""
        network = self.meant(agent, Meaning.HOME_NETWORK)
        if network in self.topology.networks:
            return self.topology.networks[network].subnet
        prefix: IPv4Network | None = self.meant(agent, Meaning.VIRTUAL_HOME)
        return prefix

    def outside(self, name: str) -> str:
        """The network of a node's untrusted link. Raises `LookupError` where it has none."""
        network: str | None = self.meant(name, Meaning.OUTSIDE)
        if network is None:
            raise LookupError(f"{name} has no link that means {Meaning.OUTSIDE}")
        return network

    def outside_address(self, name: str) -> IPv4Address:
        """The address of a node on its untrusted link. Raises `LookupError` where it has none."""
        return self.topology.nodes[name].links[self.outside(name)]

    def apart(self, network: str, other: str) -> bool:
        """Whether two networks may have the same addresses: NATs hide them, and no node is on both."""
        hiding = {self.meant(name, Meaning.PRIVATE): name for name in self.topology.nodes}
        on_both = any({network, other} <= {*node.links} for node in self.topology.nodes.values())
        return network != other and network in hiding and other in hiding and not on_both

    def owned_prefixes(self, name: str) -> dict[Meaning, IPv4Network]:
        """The prefixes on no link that are reached through a node: inner and virtual home addresses."""
        kinds = (Meaning.INNER_POOL, Meaning.VIRTUAL_HOME)
        return {kind: prefix for kind in kinds if (prefix := self.meant(name, kind)) is not None}

    def border(self) -> tuple[str, ...]:
        """The taps (NODE/NETWORK) where what the outside sends to the Intranet arrives."""
        return tuple(
            f"{name}/{self.outside(name)}"
            for name in self.topology.nodes
            if any(role.border for role in self.node_roles(name))
        )


def _several(value: Any) -> tuple[str, ...]:
    """What a setting names, whether a role takes several or not."""
    return value if isinstance(value, tuple) else () if value is None else (value,)


class Named:
    """What claims may name of a topology (`claim.names.Known`)."""

    def __init__(self, cast: Cast) -> None:
        self.networks: dict[str, Any] = {**cast.topology.networks}
        self.nodes: dict[str, Any] = {**cast.topology.nodes}
        self.options: dict[str, Any] = {**cast.topology.options}
        self.claims: dict[str, Any] = {**cast.topology.claims}
        self.guidelines: dict[str, Any] = {**cast.topology.guidelines}
        self.configurations: list[Any] = [*cast.topology.configurations]
        self.deployed = cast.topology.deployed
        self.with_role = cast.with_role
