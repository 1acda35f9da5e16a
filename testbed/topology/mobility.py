"""Checks of Mobile IP: homes, their agents, home addresses, and daemons that share a node."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from typing import Protocol

from testbed.document.functions import Function, Meaning
from testbed.document.marks import Path
from testbed.topology.cast import Cast
from testbed.topology.clients import check_clients
from testbed.topology.homes import check_homes
from testbed.topology.roles import Service


class _Fail(Protocol):
    def __call__(self, path: Path, message: str, hint: str | None = None, *, key: bool = False) -> None:
        """Report an error at a place of the file."""


_CheckHost = Callable[..., None]


def check_mobility(cast: Cast, owners: dict[IPv4Address, str], fail: _Fail, check_host: _CheckHost) -> None:
    """Check every node; `owners` are the nodes by the addresses of their links."""
    for where, why, hint in check_homes(cast):
        fail(where, why, hint, key=len(where) == 2)
    for where, why, hint in check_clients(cast):
        fail(where, why, hint)
    for name in cast.topology.nodes:
        if cast.acts_as(name, Function.HOME_AGENT):
            _check_home(cast, name, fail)
            _check_revocation(cast, name, fail)
        _check_daemons(cast, name, fail)
        address, agent = cast.home_address(name), cast.home_agent(name)
        if address is None:
            continue
        path = _setting_path(cast, name, Meaning.HOME_ADDRESS)
        home = cast.home_prefix(agent) if agent in cast.topology.nodes else None
        if home is not None:
            check_host(path, address, home, f"home network of {agent}")
        if address in owners:
            fail(path, f"{address} is already the address of {owners[address]}")
        owners.setdefault(address, name)
        _check_other_agents(cast, name, address, fail)


def _setting_path(cast: Cast, name: str, meaning: Meaning) -> Path:
    return ("nodes", name, "settings", cast.written_as(name, meaning))


def _check_home(cast: Cast, name: str, fail: _Fail) -> None:
    node = cast.topology.nodes[name]
    kinds = (Meaning.HOME_NETWORK, Meaning.VIRTUAL_HOME)
    link, prefix = (cast.written_as(name, kind) for kind in kinds)
    keys = [key for kind in kinds for key in cast.keys(name, kind)]
    chosen = [key for key in keys if node.settings.get(key) is not None]
    if len(chosen) != 1:
        fail(
            ("nodes", name),
            f"a home agent needs either {link} or {prefix}" + (", not both" if chosen else ""),
            f"settings: {{{link}: NETWORK}}, or {{{prefix}: PREFIX}}",
            key=True,
        )
    beside = cast.topology.nodes.get(str(cast.meant(name, Meaning.VPN_GATEWAY)))
    if beside is not None:
        _check_beside(cast, name, set(node.links) & set(beside.links), fail)


def _check_beside(cast: Cast, name: str, shared: set[str], fail: _Fail) -> None:
    path = _setting_path(cast, name, Meaning.VPN_GATEWAY)
    if cast.meant(name, Meaning.VIRTUAL_HOME) is None:
        fail(path, "only a home agent with a virtual home network has a gateway beside it")
    networks = cast.topology.networks
    intranet = {one for one, network in networks.items() if network.domain == "intranet"}
    if not shared & intranet:
        fail(path, f"expected a gateway on a network of the Intranet that {name} is on")


def _check_revocation(cast: Cast, name: str, fail: _Fail) -> None:
    """Where a home agent has the care-of address, its port 434 is its own, and revocations go there."""
    if not cast.meant(name, Meaning.REVOCATION) or not cast.topology.nodes[name].links:
        return
    link = cast.agent_link(name)
    if link in cast.care_of(name):
        where = cast.written_as(name, Meaning.CARE_OF)
        fail(
            _setting_path(cast, name, Meaning.REVOCATION),
            f"revocations for the foreign agent {name} would reach its home agent: both have port 434 of the "
            f"address on {link} (RFC 3543 §3.3)",
            f"give {where} another link, or give another node the role foreign-agent",
        )


def _check_other_agents(cast: Cast, name: str, home: IPv4Address, fail: _Fail) -> None:
    """All home agents of a mobile node serve one home network."""
    key = cast.written_as(name, Meaning.FALLBACK_AGENTS)
    listed = isinstance(cast.topology.nodes[name].settings.get(key), list)
    for index, agent in enumerate(cast.home_agents(name)[1:]):
        path: Path = ("nodes", name, "settings", key, *([index] if listed else []))
        prefix = cast.home_prefix(agent) if agent in cast.topology.nodes else None
        if agent == cast.home_agent(name):
            fail(path, f"{agent} is the home agent of {name} already", "leave it out")
        elif prefix is not None and home not in prefix:
            hint = f"name a home agent whose home network has the address {home}"
            fail(path, f"{agent} serves {prefix}, which is not the home network of {name}", hint)


def _check_daemons(cast: Cast, name: str, fail: _Fail) -> None:
    """No two daemons of a node may take the same; nor may two agents advertise on one link."""
    taken: dict[str, str] = {}
    for index, role in enumerate(cast.node_roles(name)):
        for what in (what for service in role.services.items() for what in _takes(*service)):
            other = taken.setdefault(what, role.name)
            if other != role.name:
                fail(
                    ("nodes", name, "roles", index),
                    f"daemons of {other} and {role.name} both take {what}",
                    "let the manifest and the template of one of them say another, or give each a node",
                )
    visited, home = cast.visited(name), cast.meant(name, Meaning.HOME_NETWORK)
    if home is not None and home in visited:
        fail(
            _setting_path(cast, name, Meaning.VISITED),
            f"{home} is the home network that {name} serves, and no link to visit",
            "name another link, or give another node the role foreign-agent",
        )


def _takes(name: str, service: Service) -> Iterator[str]:
    yield f"the service {name}"
    if service.control is not None:
        yield f"the control socket {service.control}"
    yield from service.takes
