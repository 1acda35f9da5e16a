"""`testbed render`: the files of every node, without an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from testbed.cli.app import TOPOLOGIES, command
from testbed.cli.options import Force, Output, Sets, Templates, TopologyRef, check_target, load_typed
from testbed.cli.output import Format, emit_json, emit_rows
from testbed.errors import cannot_write

SAMPLE_PSK = "sample-pre-shared-key"
SAMPLE_MOBILITY_KEY = "00112233445566778899aabbccddeeff"


@command("render", panel=TOPOLOGIES)
def render(
    topology: TopologyRef,
    directory: Annotated[
        Path, typer.Option("--directory", "-d", metavar="DIR", help="Where to write DIR/NODE/PATH.")
    ],
    sets: Sets = None,
    templates: Templates = None,
    force: Force = False,
    output: Output = Format.table,
) -> None:
    """Write every file of every node. Keys are samples; a lab gets its own."""
    from testbed.render import Secrets, render_lab

    loaded = load_typed(topology, sets, templates)
    lab = render_lab(
        loaded, lab=loaded.name, secrets=Secrets(SAMPLE_PSK, SAMPLE_MOBILITY_KEY), templates=templates
    )
    check_target(directory, force)
    for node in lab.nodes.values():
        for path, file in node.files.items():
            target = directory / node.name / path.lstrip("/")
            try:
                file.write(target)
            except OSError as error:
                raise cannot_write(target, error) from error
    if output is Format.json:
        nodes = {node.name: sorted(node.files) for node in lab.nodes.values()}
        emit_json({"directory": str(directory), "nodes": nodes})
    else:
        rows = [(node.name, len(node.files), directory / node.name) for node in lab.nodes.values()]
        emit_rows(("NODE", "FILES", "FOLDER"), rows)
