"""The three daemons: configuration, data plane, role and core put together."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from testbed.mobileip.core.parameters import ForeignAgentConfig, HomeAgentConfig, broadcast_addresses
from testbed.mobileip.io import daemon_toml
from testbed.mobileip.io.control import RequestError
from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.io.home_link import BroadcastListener, ProbeListener
from testbed.mobileip.io.journal import Journal
from testbed.mobileip.io.netlink import Netlink
from testbed.mobileip.io.replies import ReplyListener
from testbed.mobileip.io.role import Role
from testbed.mobileip.io.shell import Command, Shell
from testbed.mobileip.io.store import Store
from testbed.mobileip.tunnel.api import DataPlane, Side
from testbed.mobileip.tunnel.probe import probe

if TYPE_CHECKING:
    from testbed.mobileip.core.foreign_agent import ForeignAgent
    from testbed.mobileip.core.home_agent import HomeAgent

R = TypeVar("R", bound=Role)


def unix_time(now: float) -> float:
    """The time of day at the monotonic time `now`."""
    return time.time() - time.monotonic() + now


@contextmanager
def _resources(side: Side) -> Iterator[tuple[Netlink, DataPlane]]:
    netlink = Netlink()
    with closing(netlink), closing(probe(side, netlink)) as plane:
        yield netlink, plane


@contextmanager
def _started(role: R) -> Iterator[R]:
    """The role, set up; all that it set up is removed whatever happens."""
    try:
        role.start()
        yield role
    finally:
        role.stop()


def _run(shell: Shell, control: Path | None, commands: Mapping[str, Command]) -> None:
    try:
        if control is not None:
            shell.serve(control, commands)
        shell.run()
    finally:
        shell.close()


def _run_agent(
    shell: Shell,
    core: HomeAgent | ForeignAgent,
    control: Path | None,
    state: Path | None,
    revoke: Command,
) -> None:
    """Run an agent, which keeps what must outlive it: in `state`, else beside its control socket."""
    state = state or (control and control.with_suffix(".state"))
    with closing(Store(state)) if state is not None else nullcontext() as store:
        if store is not None:
            shell.keep(store, core.restore, core.unkept)
        _run(shell, control, {"flush": lambda _, now: core.flush(), "revoke": revoke})


def run_home_agent(file: Path, control: Path | None) -> None:
    """Run a home agent until a signal; raises ConfigError, NodeError or PlaneError."""
    from testbed.mobileip.core.home_agent import HomeAgent
    from testbed.mobileip.io.home_agent import HomeAgentRole

    settings = daemon_toml.home_agent(file)
    with _resources(Side.HOME) as (netlink, plane):
        core_config = _on_home_link(settings.core, netlink)
        core = HomeAgent(core_config, unix_time)
        with _started(HomeAgentRole(core_config, netlink, plane)) as role:
            shell = Shell(core, role, Journal("home-agent"))
            if core_config.home_interface is not None:
                probes = ProbeListener(core_config.home_interface)
                shell.watch(probes.socket, lambda: probes.answer(role.proxied))
                broadcasts = BroadcastListener(
                    core_config.home_interface, broadcast_addresses(core_config.home_prefix)
                )

                def forward() -> None:
                    for datagram in broadcasts.datagrams():
                        core.receive_broadcast(datagram, time.monotonic())

                shell.watch(broadcasts.socket, forward)

            def revoke(request: Mapping[str, Any], now: float) -> None:
                care_of = _address(request, "care_of") if "care_of" in request else None
                core.revoke(_address(request, "home_address"), care_of, _boolean(request, "inform"), now)

            _run_agent(shell, core, control or settings.control, settings.state, revoke)


def _on_home_link(core: HomeAgentConfig, netlink: Netlink) -> HomeAgentConfig:
    """Add what the node itself knows: its addresses, and which is the agent's on the home link."""
    addresses = netlink.addresses()
    core = replace(core, own_addresses=frozenset(each for _, each in addresses))
    ours = [each.ip for interface, each in addresses if interface == core.home_interface]
    if not ours or core.address in ours:
        return core
    suitable = next((each for each in ours if each in core.home_prefix), ours[0])
    return replace(core, advertised_address=suitable)


def run_foreign_agent(file: Path, control: Path | None) -> None:
    """Run a foreign agent until a signal; raises ConfigError, NodeError or PlaneError."""
    from testbed.mobileip.core.foreign_agent import ForeignAgent
    from testbed.mobileip.io.foreign_agent import ForeignAgentRole

    settings = daemon_toml.foreign_agent(file)
    with _resources(Side.VISITED) as (netlink, plane):
        core_config = _on_visited_link(settings.core, netlink)
        core = ForeignAgent(core_config, unix_time)
        with _started(ForeignAgentRole(core_config, netlink, plane)) as role:
            shell = Shell(core, role, Journal("foreign-agent"), core.unreachable)

            def revoke(request: Mapping[str, Any], now: float) -> None:
                busy = _boolean(request, "busy") or False
                core.revoke(_address(request, "home_address"), busy, now)

            _run_agent(shell, core, control or settings.control, settings.state, revoke)


def _on_visited_link(core: ForeignAgentConfig, netlink: Netlink) -> ForeignAgentConfig:
    """Add what the node itself knows: its addresses, and the prefix of the visited link."""
    addresses = netlink.addresses()
    ours = frozenset(each.ip for _, each in addresses)
    for address, name in ((core.address, "address"), (core.care_of, "care-of")):
        if address not in ours:
            raise NodeError(f"{name} {address} is no address of this node")
    lengths = (each.network.prefixlen for _, each in addresses if each.ip == core.address)
    return replace(core, own_addresses=ours, prefix_length=next(lengths))


def run_mobile_node(file: Path, control: Path | None) -> None:
    """Run a mobile node until a signal; raises ConfigError, NodeError or PlaneError."""
    from testbed.mobileip.core.mobile_node import MobileNode
    from testbed.mobileip.io.mobile_node import MobileNodeRole

    settings = daemon_toml.mobile_node(file)
    core = MobileNode(settings.core, unix_time)
    with (
        _resources(Side.VISITED) as (netlink, plane),
        _started(MobileNodeRole(settings.core, settings.rule_preference, netlink, plane)) as role,
    ):
        shell = Shell(core, role, Journal("mobile-node"), pace=core)

        replies = ReplyListener(
            shell.watch, lambda: role.homeless, lambda reply: core.receive(reply, time.monotonic())
        )

        def attach(request: Mapping[str, Any], now: float) -> None:
            interface, care_of = _string(request, "interface"), _address(request, "care_of")
            shell.listen(interface)
            core.attach(interface, care_of, now)

        def discover(request: Mapping[str, Any], now: float) -> None:
            interface, register = _string(request, "interface"), _boolean(request, "register")
            shell.listen(interface)
            replies.listen(interface)
            core.discover(interface, now, register is not False)

        if (attachment := settings.attachment) is not None:
            shell.listen(attachment.interface)
            replies.listen(attachment.interface)
            if attachment.care_of is not None:
                core.attach(attachment.interface, attachment.care_of, time.monotonic())
            else:
                core.discover(attachment.interface, time.monotonic())
        commands: dict[str, Command] = {
            "attach": attach,
            "discover": discover,
            "detach": lambda _, now: core.detach(now),
            "deregister": lambda _, now: core.deregister(now),
            "renew": lambda _, now: core.renew(now),
        }
        _run(shell, control or settings.control, commands)


def _string(request: Mapping[str, Any], key: str) -> str:
    value = request.get(key)
    if not isinstance(value, str):
        raise RequestError(f"{key!r} must be a string")
    return value


def _address(request: Mapping[str, Any], key: str) -> IPv4Address:
    return IPv4Address(_string(request, key))


def _boolean(request: Mapping[str, Any], key: str) -> bool | None:
    value = request.get(key)
    if value is not None and not isinstance(value, bool):
        raise RequestError(f"{key!r} must be true or false")
    return value


RUN = {"home-agent": run_home_agent, "foreign-agent": run_foreign_agent, "mobile-node": run_mobile_node}
"""The daemons by the name of their role."""
