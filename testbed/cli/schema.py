"""`testbed schema`: JSON Schema for editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from testbed.cli.app import TOPOLOGIES, command
from testbed.cli.options import Templates
from testbed.cli.output import emit_text
from testbed.errors import UsageError, did_you_mean

KINDS = ("topology", "role", "lesson", "study")


def _complete(context: typer.Context, incomplete: str) -> list[str]:
    from testbed.evidence.schema import FILES

    kinds = [Path(file).stem for file in FILES] if context.params.get("evidence") else KINDS
    return [kind for kind in kinds if kind.startswith(incomplete)]


@command("schema", panel=TOPOLOGIES)
def schema(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="KIND",
            show_default=False,
            help="topology (the default), role, lesson or study; with --evidence a file of the evidence, "
            "such as verdicts (default: all of them).",
            autocompletion=_complete,
        ),
    ] = None,
    evidence: Annotated[
        bool, typer.Option("--evidence", help="The schemas of the files in an evidence folder.")
    ] = False,
    templates: Templates = None,
) -> None:
    """Print the JSON Schema of topology files, for completion and checks in an editor.

    Save it and begin your file with: # yaml-language-server: $schema=topology.schema.json
    """
    from testbed.topology.roles import load_roles, role_files
    from testbed.topology.schema import role_schema, topology_schema

    if evidence:
        made = _evidence(kind)
    elif kind not in (None, *KINDS):
        raise UsageError(f"there is no kind of file {kind}", hint=did_you_mean(str(kind), KINDS))
    elif kind == "role":
        made = role_schema()
    elif kind == "lesson":
        from testbed.lesson.model import Lesson

        made = Lesson.model_json_schema()
    elif kind == "study":
        from testbed.sweep.model import Study

        made = Study.model_json_schema()

    else:
        files = role_files(templates)
        made = topology_schema(load_roles(files, files))
    emit_text(json.dumps(made, indent=2))


def _evidence(kind: str | None) -> dict[str, Any]:
    """The schema of one file of the evidence, or all of them by file; of JSON lines that of a line."""
    from testbed.evidence.schema import FILES, evidence_schema

    files = {Path(file).stem: file for file in FILES}
    if kind is None:
        return {file: evidence_schema(file) for file in FILES}
    if kind.partition(".")[0] not in files:
        raise UsageError(f"the evidence has no file {kind}", hint=did_you_mean(kind, files))
    return evidence_schema(files[kind.partition(".")[0]])
