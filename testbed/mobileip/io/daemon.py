"""The three daemons: configuration, data plane, role and core put together.

A daemon first claims what is its alone in the node, its UDP port too, and only then changes anything: so one
that cannot start leaves the others as they are.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.mobileip.core.links import broadcast_addresses
from testbed.mobileip.io.bpf import Instruction
from testbed.mobileip.io.changes import Rule
from testbed.mobileip.io.clock import unix_time
from testbed.mobileip.io.control import RequestError
from testbed.mobileip.io.daemon_toml import Settings
from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.io.home_link import BroadcastListener, ProbeListener, TunnelListener
from testbed.mobileip.io.instance import FOREIGN_AGENT_TABLE, Claims
from testbed.mobileip.io.journal import Journal
from testbed.mobileip.io.netlink import Netlink
from testbed.mobileip.io.replies import ReplyListener
from testbed.mobileip.io.role import Role
from testbed.mobileip.io.shell import Command, Shell
from testbed.mobileip.io.store import Store
from testbed.mobileip.io.udp import ANSWERS, Place, RegistrationSocket, keepalives
from testbed.mobileip.tunnel.api import DataPlane, Side
from testbed.mobileip.tunnel.probe import probe
from testbed.mobileip.wire import PORT

if TYPE_CHECKING:
    from testbed.mobileip.core.foreign.config import ForeignAgentConfig
    from testbed.mobileip.core.foreign_agent import ForeignAgent
    from testbed.mobileip.core.home.config import HomeAgentConfig
    from testbed.mobileip.core.home_agent import HomeAgent


LONG_LIVED = 200_000
"""New objects after which Python looks for garbage in cycles: what some 30,000 bindings are made of.

By default it looks after 2000, and so time and again through bindings, which stay.
"""


class _Daemon:
    """What every daemon has of its node, in the order it takes it, until the block ends.

    Everything raises NodeError or PlaneError.
    """

    def __init__(self, settings: Settings[Any], control: Path | None) -> None:
        self.settings = settings
        self.instance = settings.instance
        self.control = control or settings.control
        self.state = settings.state or (self.control and self.control.with_suffix(".state"))
        self._stack = ExitStack()
        self._claims = Claims()

    def __enter__(self) -> _Daemon:
        self._stack.enter_context(closing(self._claims))
        self._claims.take(self.instance.claims.items())
        if self.control is not None:
            self._claims.take([(f"the control socket {self.control}", "control")])
        self.netlink = self._stack.enter_context(closing(Netlink(self.instance.protocol)))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def claim(self, what: str, key: str) -> None:
        """Claim something more."""
        self._claims.take([(what, key)])

    def listen(
        self, places: Sequence[Place], program: Sequence[Instruction], departures: bool = False
    ) -> list[RegistrationSocket]:
        """Open the UDP sockets: at `places`, or where the port is shared with nobody at every address."""
        if not self.instance.shares_port:
            places = [Place(port) for port in dict.fromkeys(place.port for place in places)]
        sockets = []
        for place in places:
            if self.instance.shares_port:
                self.claim(str(place), "address")
            sockets.append(RegistrationSocket(place, program, departures))
            self._stack.callback(sockets[-1].close)
        return sockets

    def plane(self, side: Side) -> DataPlane:
        """The data plane."""
        plane = probe(
            side,
            self.netlink,
            self.instance.devices,
            ipsec_here=self.settings.ipsec_here,
            merges_segments=self.settings.merges_segments,
        )
        return self._stack.enter_context(closing(plane))

    def run(self, shell: Shell, role: Role, commands: Mapping[str, Command]) -> None:
        """Run until a signal; what the role sets up is removed whatever happens."""
        self._stack.callback(shell.close)
        if self.control is not None:
            shell.serve(self.control, commands)
        self._stack.callback(role.stop)
        role.start()
        gc.freeze()  # what is there now stays, and is not looked through again
        gc.set_threshold(LONG_LIVED)
        gc.enable()
        shell.run()

    def run_agent(
        self, shell: Shell, role: Role, core: HomeAgent | ForeignAgent, commands: Mapping[str, Command]
    ) -> None:
        """Run an agent, which keeps what must outlive it in the file of its state."""
        if self.state is not None:
            self.claim(f"the state file {self.state}", "state")
            store = self._stack.enter_context(closing(Store(self.state)))
            shell.keep(store, core.restore)
        self.run(shell, role, {"flush": lambda _, now: core.flush(), **commands})


def run_home_agent(file: Path, control: Path | None) -> None:
    """Run a home agent until a signal; raises ConfigError, NodeError or PlaneError."""
    from testbed.mobileip.core.home_agent import HomeAgent
    from testbed.mobileip.io import home_agent_toml
    from testbed.mobileip.io.home_agent import HomeAgentRole

    settings = home_agent_toml.read(file)
    with _Daemon(settings, control) as daemon:
        config = _on_home_link(settings.core, daemon.netlink)
        core = HomeAgent(config, unix_time)
        links = [config.home_interface] if config.home_interface is not None else []
        places = [Place(PORT, config.address), *(Place(PORT, interface=link) for link in links)]
        ears = daemon.listen(places, keepalives(config.address))
        role = HomeAgentRole(config, daemon.netlink, daemon.plane(Side.HOME))
        shell = Shell(core, role, Journal(daemon.instance.name), ears, refused=core.refused, backlog=core)
        if config.home_interface is not None:
            probes = ProbeListener(config.home_interface)
            shell.watch(probes.socket, lambda: probes.answer(role.proxied))
            broadcasts = BroadcastListener(config.home_interface, broadcast_addresses(config.home_prefix))

            def forward() -> None:
                for datagram in broadcasts.datagrams():
                    core.receive_broadcast(datagram, time.monotonic())

            shell.watch(broadcasts.socket, forward)
            role.join = broadcasts.join
            tunnels = TunnelListener(config.home_prefix.broadcast_address)

            def take() -> None:
                for device, datagram in tunnels.datagrams():
                    if role.is_from(datagram, device):
                        core.receive_tunnelled(datagram, time.monotonic())

            shell.watch(tunnels.socket, take)

        def revoke(request: Mapping[str, Any], now: float) -> None:
            care_of = _address(request, "care_of") if "care_of" in request else None
            core.revoke(_address(request, "home_address"), care_of, _boolean(request, "inform"), now)

        def binding(request: Mapping[str, Any], now: float) -> Mapping[str, Any]:
            return core.picture(_address(request, "home_address"), now)

        daemon.run_agent(shell, role, core, {"revoke": revoke, "binding": binding})


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
    from testbed.mobileip.io import foreign_agent_toml
    from testbed.mobileip.io.foreign_agent import ForeignAgentRole

    settings = foreign_agent_toml.read(file)
    with _Daemon(settings, control) as daemon:
        config = _on_visited_link(settings.core, daemon.netlink)
        core = ForeignAgent(config, unix_time)
        for link in config.links:
            daemon.claim(f"the visited link {link.interface}", "interface")
        places = [
            *(Place(config.port, care_of) for care_of in config.care_of_addresses),
            *(Place(PORT, interface=link.interface) for link in config.links),
        ]
        ears = daemon.listen(places, ANSWERS)
        role = ForeignAgentRole(
            config, daemon.netlink, daemon.plane(Side.VISITED), daemon.instance.table or FOREIGN_AGENT_TABLE
        )
        shell = Shell(core, role, Journal(daemon.instance.name), ears, core.unreachable, refused=core.refused)

        def revoke(request: Mapping[str, Any], now: float) -> None:
            busy = _boolean(request, "busy") or False
            core.revoke(_address(request, "home_address"), busy, now)

        daemon.run_agent(shell, role, core, {"revoke": revoke})


def _on_visited_link(core: ForeignAgentConfig, netlink: Netlink) -> ForeignAgentConfig:
    """Add what the node itself knows: its addresses, and the prefixes of the visited links."""
    lengths = {each.ip: each.network.prefixlen for _, each in netlink.addresses()}
    for name, addresses in (
        ("address", [link.address for link in core.links]),
        ("care-of", core.care_of_addresses),
    ):
        for address in addresses:
            if address not in lengths:
                raise NodeError(f"{name} {address} is no address of this node")
    return replace(
        core,
        own_addresses=frozenset(lengths),
        prefix_length=lengths[core.address],
        other_links=tuple(replace(each, prefix_length=lengths[each.address]) for each in core.other_links),
    )


def run_mobile_node(file: Path, control: Path | None) -> None:
    """Run a mobile node until a signal; raises ConfigError, NodeError or PlaneError."""
    from testbed.mobileip.core.mobile_node import MobileNode
    from testbed.mobileip.io import mobile_node_toml
    from testbed.mobileip.io.mobile_node import MobileNodeRole

    settings = mobile_node_toml.read(file)
    config = settings.core
    core = MobileNode(config, unix_time)
    with _Daemon(settings, control) as daemon:
        ears = daemon.listen([Place(config.port)], ANSWERS, departures=True)
        rule = Rule(
            settings.rule_preference,
            daemon.instance.table,
            config.home_address if settings.rule_from_home_address else None,
        )
        role = MobileNodeRole(config, rule, daemon.netlink, daemon.plane(Side.VISITED))
        shell = Shell(core, role, Journal(daemon.instance.name), ears, pace=core)

        replies = ReplyListener(
            shell.watch, lambda: role.homeless, lambda reply: core.receive(reply, time.monotonic())
        )

        def attach(request: Mapping[str, Any], now: float) -> None:
            interface, care_of = _string(request, "interface"), _address(request, "care_of")
            shell.listen(interface)
            core.attach(interface, care_of, now)

        def detect(request: Mapping[str, Any], now: float) -> None:
            interface = _string(request, "interface")
            care_of = _address(request, "care_of") if "care_of" in request else None
            shell.listen(interface)
            core.detect(interface, now, care_of)

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
            "detect": detect,
            "rest": lambda _, now: core.rest(),
            "detach": lambda request, now: core.detach(now, _boolean(request, "moving") or False),
            "deregister": lambda _, now: core.deregister(now),
            "renew": lambda _, now: core.renew(now),
        }
        daemon.run(shell, role, commands)


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


def _run_bulk_nodes(file: Path, control: Path | None) -> None:
    from testbed.mobileip.io.bulk import run_bulk_nodes

    run_bulk_nodes(file, control)


RUN = {
    "home-agent": run_home_agent,
    "foreign-agent": run_foreign_agent,
    "mobile-node": run_mobile_node,
    "bulk-nodes": _run_bulk_nodes,
}
"""The daemons by the name of their role."""
