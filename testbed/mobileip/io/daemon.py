"""The daemons by the name of their role: configuration, data plane, role and core put together."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.mobileip.io.changes import Rule
from testbed.mobileip.io.clock import unix_time
from testbed.mobileip.io.control import address, boolean, string
from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.io.instance import FOREIGN_AGENT_TABLE
from testbed.mobileip.io.netlink import Netlink
from testbed.mobileip.io.replies import ReplyListener
from testbed.mobileip.io.running import Daemon
from testbed.mobileip.io.shell import Command, Shell
from testbed.mobileip.io.udp import ANSWERS, Place
from testbed.mobileip.tunnel.api import Side
from testbed.mobileip.wire import PORT

if TYPE_CHECKING:
    from testbed.mobileip.core.foreign.config import ForeignAgentConfig


def _run_home_agent(file: Path, control: Path | None) -> None:
    from testbed.mobileip.io.home_agent_daemon import run_home_agent

    run_home_agent(file, control)


def run_foreign_agent(file: Path, control: Path | None) -> None:
    """Run a foreign agent until a signal; raises ConfigError, NodeError or PlaneError."""
    from testbed.mobileip.core.foreign_agent import ForeignAgent
    from testbed.mobileip.io import foreign_agent_toml
    from testbed.mobileip.io.foreign_agent import ForeignAgentRole

    settings = foreign_agent_toml.read(file)
    with Daemon(settings, control) as daemon:
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
        shell = Shell(core, role, daemon.journal, ears, core.unreachable, refused=core.refused)
        daemon.claim_state()

        def revoke(request: Mapping[str, Any], now: float) -> None:
            busy = boolean(request, "busy") or False
            core.revoke(address(request, "home_address"), busy, now)

        daemon.run_agent(shell, role, core, {"revoke": revoke})


def _on_visited_link(core: ForeignAgentConfig, netlink: Netlink) -> ForeignAgentConfig:
    """Add what the node itself knows: its addresses, and the prefixes of the visited links."""
    lengths = {each.ip: each.network.prefixlen for _, each in netlink.addresses()}
    for name, addresses in (
        ("address", [link.address for link in core.links]),
        ("care-of", core.care_of_addresses),
    ):
        for each in addresses:
            if each not in lengths:
                raise NodeError(f"{name} {each} is no address of this node")
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
    with Daemon(settings, control) as daemon:
        ears = daemon.listen([Place(config.port)], ANSWERS, departures=True)
        rule = Rule(
            settings.rule_preference,
            daemon.instance.table,
            config.home_address if settings.rule_from_home_address else None,
        )
        role = MobileNodeRole(config, rule, daemon.netlink, daemon.plane(Side.VISITED))
        shell = Shell(core, role, daemon.journal, ears, pace=core)

        replies = ReplyListener(
            shell.watch, lambda: role.homeless, lambda reply: core.receive(reply, time.monotonic())
        )

        def attach(request: Mapping[str, Any], now: float) -> None:
            interface, care_of = string(request, "interface"), address(request, "care_of")
            shell.listen(interface)
            core.attach(interface, care_of, now)

        def detect(request: Mapping[str, Any], now: float) -> None:
            interface = string(request, "interface")
            care_of = address(request, "care_of") if "care_of" in request else None
            shell.listen(interface)
            core.detect(interface, now, care_of)

        def discover(request: Mapping[str, Any], now: float) -> None:
            interface, register = string(request, "interface"), boolean(request, "register")
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
            "detach": lambda request, now: core.detach(now, boolean(request, "moving") or False),
            "deregister": lambda _, now: core.deregister(now),
            "renew": lambda _, now: core.renew(now),
        }
        daemon.run(shell, role, commands)


def _run_bulk_nodes(file: Path, control: Path | None) -> None:
    from testbed.mobileip.io.bulk import run_bulk_nodes

    run_bulk_nodes(file, control)


RUN = {
    "home-agent": _run_home_agent,
    "foreign-agent": run_foreign_agent,
    "mobile-node": run_mobile_node,
    "bulk-nodes": _run_bulk_nodes,
}
"""The daemons by the name of their role."""
