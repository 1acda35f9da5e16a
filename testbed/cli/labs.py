"""What the commands on labs share: their arguments with completion, progress on stderr, and tables."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING, Annotated, Final

import typer

from testbed.cli.output import as_called, console, emit, emit_rows, note, verbosity

if TYPE_CHECKING:
    from rich.status import Status

    from testbed.engine.api import Engine
    from testbed.lab.state import ActualLab
    from testbed.lab.status import LabStatus, NodeStatus


def complete_lab(incomplete: str) -> list[str]:
    """Shell completion: the labs there are."""
    from testbed.engine.record import all_recorded

    names = dict.fromkeys([*_labs(), *all_recorded()])
    return [name for name in names if name.startswith(incomplete)]


def complete_node(context: typer.Context, incomplete: str) -> list[str]:
    """Shell completion: the nodes of the lab named before."""
    lab = _labs().get(context.params.get("lab") or "")
    return [name for name in lab.nodes if name.startswith(incomplete)] if lab else []


def complete_service(context: typer.Context, incomplete: str) -> list[str]:
    """Shell completion: the services of the node named before that report when they are ready."""
    from testbed.lab.state import node_facts

    lab = _labs().get(context.params.get("lab") or "")
    container = lab.nodes.get(context.params.get("node") or "") if lab else None
    services = (*node_facts(container).services, "nftables") if container else ()
    return [name for name in services if name.startswith(incomplete)]


def complete_attachment(context: typer.Context, incomplete: str) -> list[str]:
    """Shell completion: the networks that the mobile node named before can attach to."""
    from testbed.lab.state import node_facts

    lab = _labs().get(context.params.get("lab") or "")
    container = lab.nodes.get(context.params.get("node") or "") if lab else None
    networks = node_facts(container).attachable if container else ()
    return [name for name in networks if name.startswith(incomplete)]


def complete_place(context: typer.Context, incomplete: str) -> list[str]:
    """Shell completion: where the lab named before can be captured."""
    from testbed.lab.state import node_facts

    lab = _labs().get(context.params.get("lab") or "")
    if lab is None:
        return []
    node, slash, network = incomplete.partition("/")
    if slash:
        links = node_facts(lab.nodes[node]).links if node in lab.nodes else ()
        return [f"{node}/{link}" for link in links if link.startswith(network)]
    links = {link: None for container in lab.nodes.values() for link in node_facts(container).links}
    return [place for place in (*lab.nodes, *links) if place.startswith(node)]


def complete_link(context: typer.Context, incomplete: str) -> list[str]:
    """Shell completion: the nodes of the lab named before, and their links."""
    from testbed.lab.state import node_facts

    lab = _labs().get(context.params.get("lab") or "")
    if lab is None:
        return []
    links = [f"{node}/{net}" for node, one in lab.nodes.items() for net in node_facts(one).links]
    known = links if "/" in incomplete else lab.nodes
    return [place for place in known if place.startswith(incomplete)]


def complete_impairment(context: typer.Context, incomplete: str) -> list[str]:
    """Shell completion: what can be changed of the networks of the lab named before."""
    from testbed.lab.impairments import KEYS
    from testbed.lab.state import node_facts

    lab = _labs().get(context.params.get("lab") or "")
    networks = {net: None for one in lab.nodes.values() for net in node_facts(one).links} if lab else {}
    known = [f"network.{net}." for net in networks]
    if incomplete.count(".") > 1:
        known = [f"{net}{key}=" for net in known for key in KEYS]
    return [one for one in known if one.startswith(incomplete)]


def _labs() -> dict[str, ActualLab]:
    """The labs by name; none where no engine answers, for completion is silent."""
    from testbed.engine.connect import connect
    from testbed.errors import TestbedError
    from testbed.lab.state import read_labs

    try:
        with closing(connect()) as engine:
            return read_labs(engine)
    except TestbedError:
        return {}


LabName = Annotated[
    str,
    typer.Argument(
        metavar="LAB", help="The lab's name: its topology's, or --name.", autocompletion=complete_lab
    ),
]
AnyNodeName = Annotated[
    str | None,
    typer.Argument(
        metavar="NODE", help="A node of the lab. Default: every node.", autocompletion=complete_node
    ),
]
NodeName = Annotated[
    str, typer.Argument(metavar="NODE", help="A node of the lab.", autocompletion=complete_node)
]


@contextmanager
def engine_connection(lab: str) -> Iterator[Engine]:
    """Connect to the engine that a lab is on, or the engines; commands on running labs never install one."""
    from testbed.engine.members import lab_engine

    with closing(lab_engine(lab, note)) as engine:
        yield engine


@contextmanager
def all_connections(wanted: str | None) -> Iterator[list[Engine]]:
    """Connect to all engines where labs are (None), or those of a pattern may be, those of several first."""
    from testbed.engine.members import all_engines

    with ExitStack() as ending:
        found = all_engines(wanted, note)
        for engine in found:
            ending.callback(engine.close)
        yield found


HEARTBEAT: Final = 5.0
"""Seconds after which a log without a terminal gets another line on what goes on."""


class Narrator:
    """`Progress` on stderr: on a terminal a line that changes, elsewhere a line every few seconds."""

    def __init__(self, status: Status | None = None) -> None:
        self._status = status
        self._began = time.monotonic()
        self._doing = ""

    def say(self, text: str) -> None:
        """Print a line."""
        if self._status is None:
            note(text)
        elif verbosity.level >= 0:
            self._status.console.print(as_called(text))

    def show(self, text: str) -> None:
        """Change the line."""
        self._doing = text
        if self._status is not None:
            self._status.update(text)

    def beat(self, ended: Event) -> None:
        """Print what goes on at every heartbeat until it has ended."""
        while not ended.wait(HEARTBEAT):
            if self._doing:
                note(f"{self._doing} ({time.monotonic() - self._began:.0f} s)")


@contextmanager
def narrated() -> Iterator[Narrator]:
    """Report progress while a command works."""
    if not sys.stderr.isatty() or verbosity.level < 0:
        narrator, ended = Narrator(), Event()
        Thread(target=narrator.beat, args=(ended,), name="heartbeat", daemon=True).start()
        try:
            yield narrator
        finally:
            ended.set()
        return
    with console(stderr=True).status("") as status:
        yield Narrator(status)


def mobile_nodes(status: LabStatus) -> str:
    """A line on each mobile node of a lab that was asked where it is."""
    from testbed.agreed import ROAM
    from testbed.lab.describe import describe

    return "\n".join(f"{node}: {describe(ROAM, state)}" for node, state in status.mobile.items())


def emit_lab(status: LabStatus) -> None:
    """Print the nodes and networks of a lab as tables."""
    emit_rows(
        ("NODE", *(("ENGINE",) if status.engines else ()), "ROLES", "ADDRESS", "NETWORK", "STATE"),
        [
            (
                node.name,
                *((node.engine,) if status.engines else ()),
                " ".join(node.roles),
                "\n".join(address for address in node.links.values() if address) or node.address,
                "\n".join(network for network, address in node.links.items() if address)
                or f"moves between {', '.join(node.links)}",
                _state(node),
            )
            for node in status.nodes
        ],
    )
    emit()
    users: dict[str, list[str]] = {network.name: [] for network in status.networks}
    for node in status.nodes:
        for link, address in node.links.items():
            users.setdefault(link, []).append(node.name if address else f"({node.name})")
    emit_rows(
        ("NETWORK", "SUBNET", "DOMAIN", "MEDIUM", "NODES"),
        [
            (network.name, network.subnet, network.domain, network.medium, " ".join(users[network.name]))
            for network in status.networks
        ],
    )


def _state(node: NodeStatus) -> str:
    if node.state != "running":
        return node.status
    failed = node.failed
    if not failed:
        return node.state
    whole = len(failed) == len(node.links)
    return "failed: all links cut" if whole else f"running; failed: {', '.join(failed)}"
