"""`testbed schema`: JSON Schema for editors."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from testbed.cli.app import TOPOLOGIES, command
from testbed.cli.options import Templates
from testbed.cli.output import emit_text


class Kind(StrEnum):
    """What a schema can be printed of."""

    topology = "topology"
    role = "role"


@command("schema", panel=TOPOLOGIES)
def schema(
    kind: Annotated[Kind, typer.Argument(help="Of which kind of file.")] = Kind.topology,
    templates: Templates = None,
) -> None:
    """Print the JSON Schema of topology files, for completion and checks in an editor.

    Save it and begin your file with: # yaml-language-server: $schema=topology.schema.json
    """
    from testbed.topology.roles import load_roles, role_files
    from testbed.topology.schema import role_schema, topology_schema

    if kind is Kind.role:
        made = role_schema()
    else:
        files = role_files(templates)
        made = topology_schema(load_roles(files, files))
    emit_text(json.dumps(made, indent=2))
