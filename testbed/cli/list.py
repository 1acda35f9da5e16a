"""`testbed list`: the built-in topologies."""

from __future__ import annotations

import json
from typing import Annotated

from testbed.cli.app import TOPOLOGIES, command
from testbed.cli.options import one_of
from testbed.cli.output import CiFormat, emit_json, emit_rows, emit_text


@command("list", panel=TOPOLOGIES)
def list_topologies(
    output: Annotated[
        CiFormat,
        one_of(
            CiFormat,
            "--output",
            "-o",
            help="A table for people, JSON for programs, the matrix of a GitHub job: what `matrix` decides.",
        ),
    ] = CiFormat.table,
) -> None:
    """List the built-in topologies."""
    from testbed.topology.include import read_document
    from testbed.topology.load import builtin_topologies

    if output is CiFormat.github:
        from testbed.experiment.claims.plan import choose_scenarios

        scenarios = [
            {"scenario": one.loaded.name, "title": one.loaded.topology.title, "claims": len(one.claims)}
            for one in choose_scenarios()
        ]
        emit_text(json.dumps({"include": scenarios}, ensure_ascii=False))
        return
    found = []
    for name, file in builtin_topologies().items():
        document = read_document(file, str(file))[0]  # what is built in is right, and its claims are many
        found.append({"name": name, "title": document["title"]})
        found[-1] |= {key: document.get(key, "") for key in ("source", "summary")} | {"file": str(file)}
    if output is CiFormat.json:
        emit_json({"topologies": found})
    else:
        rows = [(one["name"], one["title"], one["source"]) for one in found]
        emit_rows(("NAME", "TITLE", "SOURCE"), rows)
