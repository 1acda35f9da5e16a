"""`testbed status`: the labs there are, or one of them in full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.agreed import ROAM
from testbed.cli.app import LABS, command
from testbed.cli.labs import all_connections, complete_lab, emit_lab, engine_connection, mobile_nodes
from testbed.cli.options import Output, parsed
from testbed.cli.output import Format, as_called, emit, emit_json, emit_rows, note
from testbed.errors import UsageError

if TYPE_CHECKING:
    from testbed.engine.api import Engine
    from testbed.lab.state import ActualLab
    from testbed.lab.status import LabStatus


@command("status", panel=LABS)
def status(
    lab: Annotated[
        str | None,
        typer.Argument(
            metavar="LAB",
            help="The lab to look into, or a pattern of names ('student-*') to list.",
            autocompletion=complete_lab,
        ),
    ] = None,
    home: Annotated[
        str | None,
        typer.Option(
            "--home",
            metavar="ADDRESS",
            help="Only the mobile node of a crowd that has this home address: its state, and its binding.",
        ),
    ] = None,
    output: Output = Format.table,
) -> None:
    """List labs, or show one lab's nodes, addresses, services and data planes.

    A pattern lists the labs that it matches, and asks their mobile nodes where they are.
    """
    from testbed.engine.names import is_pattern

    if home is not None:
        if lab is None or is_pattern(lab):
            raise UsageError("--home needs a lab", hint="testbed status LAB --home 10.64.0.10")
        with engine_connection(lab) as engine:
            _home(engine, lab, home, output)
    elif lab is None or is_pattern(lab):
        with all_connections(lab) as engines:
            _list(engines, output, lab)
    else:
        with engine_connection(lab) as engine:
            _one(engine, lab, output)


def _home(engine: Engine, lab: str, home: str, output: Format) -> None:
    from testbed.document.values import parse_address
    from testbed.lab.crowd import reports
    from testbed.lab.describe import describe
    from testbed.lab.state import find_lab

    address = parsed("--home", home, parse_address)
    found = reports(engine, find_lab(engine, lab), address)
    if output is Format.json:
        emit_json({"lab": lab, "home_address": home, "reports": [asdict(each) for each in found]})
        return
    emit_rows(
        ("NODE", "SERVICE", "STATE"),
        [(each.node, each.service, as_called(describe(each.service, each.state))) for each in found],
    )


def _list(engines: Sequence[Engine], output: Format, pattern: str | None) -> None:
    from testbed.engine import names
    from testbed.lab.state import nearest_lab, read_labs
    from testbed.lab.status import lab_status

    found: dict[str, ActualLab] = {}
    labs: list[LabStatus] = []
    for engine in engines:
        for name, one in read_labs(engine).items():
            # A single engine sees but a part of a lab that is on several.
            if names.matches(name, pattern) and bool(one.engines) == bool(engine.members):
                found[name] = one
                labs.append(lab_status(engine, one, ask=one.mobile_nodes if pattern else ()))
    if pattern and not found:
        raise UsageError(f"there is no lab {pattern}", hint=nearest_lab(engines[-1], pattern))
    # Whose a lab is matters where there are others' labs.
    shared = any(one.owner != names.owner() for one in found.values())
    if output is Format.json:
        facts = [
            {**one.summary(), "owner": found[one.name].owner} | ({"mobile": one.mobile} if pattern else {})
            for one in labs
        ]
        emit_json({"labs": facts})
    elif labs:
        emit_rows(
            (
                *("LAB", "TOPOLOGY", "NODES", "NETWORKS"),
                *(("MOBILE NODES",) if pattern else ()),
                *(("OWNER",) if shared else ()),
            ),
            [
                (
                    one.name,
                    one.topology,
                    f"{one.running} of {len(one.nodes)} running",
                    len(one.networks),
                    *((mobile_nodes(one),) if pattern else ()),
                    *((found[one.name].owner or "unknown",) if shared else ()),
                )
                for one in labs
            ],
        )
    else:
        note("no lab is up; testbed list names what can be brought up")


def _one(engine: Engine, lab: str, output: Format) -> None:
    from testbed.engine.joined import JoinedEngine
    from testbed.engine.vtep import PORT
    from testbed.lab.describe import describe
    from testbed.lab.reason import in_words
    from testbed.lab.state import find_lab
    from testbed.lab.status import lab_status

    facts, found = engine.facts(), lab_status(engine, find_lab(engine, lab))
    trouble = engine.trouble(lab) if isinstance(engine, JoinedEngine) and not found.lost else None
    if output is Format.json:
        emit_json({**found.to_dict(), "trouble": trouble, "engine": asdict(facts)})
        return
    emit_lab(found)
    emit()
    emit_rows(
        ("NODE", "SERVICE", "DATA PLANE", "STATE"),
        [
            (
                node.name,
                service,
                (state or {}).get("backend"),
                as_called(describe(service, in_words(found, node.name) if service == ROAM else state)),
            )
            for node in found.nodes
            for service, state in node.services.items()
        ],
    )
    for node in found.nodes:
        if node.problem:
            note(f"{node.name}: {node.problem}")
    if found.engines:
        emit(f"\nnetworks between the engines: VXLAN on UDP port {PORT}, MTU {found.mtu}")
    if trouble:
        note(trouble)
    emit(f"\n{facts.name} {facts.version} (API {facts.api}) on Linux {facts.kernel}, {facts.address}")
