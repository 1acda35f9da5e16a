"""The home agent's daemon: in this process alone, or in several that share its mobile nodes out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from testbed.mobileip.core.home.config import HomeAgentConfig
from testbed.mobileip.core.home_agent import HomeAgent
from testbed.mobileip.core.links import broadcast_addresses
from testbed.mobileip.io import home_agent_toml
from testbed.mobileip.io.clock import unix_time
from testbed.mobileip.io.control import address, boolean
from testbed.mobileip.io.home_agent import HomeAgentRole, prepare, release
from testbed.mobileip.io.home_link import BroadcastListener, ProbeListener, TunnelListener
from testbed.mobileip.io.netlink import Netlink
from testbed.mobileip.io.running import Daemon
from testbed.mobileip.io.shard_records import file_of, share_records
from testbed.mobileip.io.shards import Part, Shards
from testbed.mobileip.io.shell import Shell
from testbed.mobileip.io.steering import Steering
from testbed.mobileip.io.udp import Place, RegistrationSocket, keepalives
from testbed.mobileip.tunnel.api import Side
from testbed.mobileip.tunnel.kernel import remove_devices
from testbed.mobileip.wire import PORT


def run_home_agent(file: Path, control: Path | None) -> None:
    """Run a home agent until a signal; raises ConfigError, NodeError or PlaneError."""
    settings = home_agent_toml.read(file)
    with Daemon(settings, control) as daemon:
        config = _on_home_link(settings.core, daemon.netlink)
        steering = Steering(settings.processes, config.pool)
        links = [config.home_interface] if config.home_interface is not None else []
        places = [Place(PORT, config.address), *(Place(PORT, interface=link) for link in links)]
        if steering.processes > 1:
            _run_processes(daemon, config, places, steering)
        else:
            core = HomeAgent(config, unix_time)
            ears = daemon.listen(places, keepalives(config.address))
            _claim_state(daemon, steering)
            _run(daemon, core, ears)


def _run_processes(
    daemon: Daemon, config: HomeAgentConfig, places: Sequence[Place], steering: Steering
) -> None:
    """Run a home agent in several processes: each has all associations, and serves its own mobile nodes."""
    instances = [daemon.instance.part(number) for number in range(steering.processes)]
    for instance in instances:
        daemon.claim(*instance.devices_claim)
    sockets = daemon.listen_together(places, keepalives(config.address), steering)
    _claim_state(daemon, steering)
    remove_devices(daemon.netlink, daemon.instance.devices)
    limits = steering.divided(config.bindings, (association.peer for association in config.mobile_nodes))

    def serve(part: Part) -> None:
        number = part.share.number
        own = replace(config, bindings=limits[number], advertising=None if number else config.advertising)
        state = None if daemon.state is None else file_of(daemon.state, number)
        settings = replace(daemon.settings, instance=instances[number], state=state)
        with Daemon(settings, None, part) as process:
            _run(process, HomeAgent(own, unix_time), part.sockets)

    prepare(config, daemon.netlink)
    try:
        Shards(steering, sockets, serve, daemon.journal, daemon.control).run()
    finally:
        release(config, daemon.netlink)


def _claim_state(daemon: Daemon, steering: Steering) -> None:
    if (state := daemon.claim_state()) is not None:
        share_records(state, steering)


def _run(daemon: Daemon, core: HomeAgent, ears: Sequence[RegistrationSocket]) -> None:
    """Run `core`, which has all mobile nodes, or those of this process."""
    role = HomeAgentRole(core.config, daemon.netlink, daemon.plane(Side.HOME), daemon.share)
    shell = Shell(core, role, daemon.journal, ears, refused=core.refused, backlog=core)
    if core.config.home_interface is not None:
        _listen_on_home_link(core.config.home_interface, core, role, shell)

    def revoke(request: Mapping[str, Any], now: float) -> None:
        care_of = address(request, "care_of") if "care_of" in request else None
        core.revoke(address(request, "home_address"), care_of, boolean(request, "inform"), now)

    def binding(request: Mapping[str, Any], now: float) -> Mapping[str, Any]:
        return core.picture(address(request, "home_address"), now)

    daemon.run_agent(shell, role, core, {"revoke": revoke, "binding": binding})


def _listen_on_home_link(interface: str, core: HomeAgent, role: HomeAgentRole, shell: Shell) -> None:
    """Hear what is for mobile nodes that are away: probes, broadcasts, and what others send to all."""
    prefix = core.config.home_prefix
    probes = ProbeListener(interface)
    shell.watch(probes.socket, lambda: probes.answer(role.proxied))
    broadcasts = BroadcastListener(
        interface, broadcast_addresses(prefix), role.relays if role.share else None
    )

    def forward() -> None:
        for datagram in broadcasts.datagrams():
            core.receive_broadcast(datagram, time.monotonic())

    shell.watch(broadcasts.socket, forward)
    role.join = broadcasts.join
    tunnels = TunnelListener(prefix.broadcast_address)

    def take() -> None:
        for device, datagram in tunnels.datagrams():
            if role.is_from(datagram, device):
                core.receive_tunnelled(datagram, time.monotonic())

    shell.watch(tunnels.socket, take)


def _on_home_link(core: HomeAgentConfig, netlink: Netlink) -> HomeAgentConfig:
    """Add what the node itself knows: its addresses, and which is the agent's on the home link."""
    addresses = netlink.addresses()
    core = replace(core, own_addresses=frozenset(each for _, each in addresses))
    ours = [each.ip for interface, each in addresses if interface == core.home_interface]
    if not ours or core.address in ours:
        return core
    suitable = next((each for each in ours if each in core.home_prefix), ours[0])
    return replace(core, advertised_address=suitable)
