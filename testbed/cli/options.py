"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from testbed.cli.output import Format


def complete_topology(incomplete: str) -> list[str]:
    """Shell completion: built-in topologies, and YAML files below what was typed."""
    from testbed.topology.load import builtin_topologies

    names = [name for name in builtin_topologies() if name.startswith(incomplete)]
    return names + [str(file) for file in sorted(Path().glob(f"{incomplete}*.yaml")) if incomplete]


TopologyRef = Annotated[
    str,
    typer.Argument(
        metavar="NAME|FILE", help="A built-in topology, or a YAML file.", autocompletion=complete_topology
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Change the topology: network.internet.delay=40ms, node.mn.lifetime=60s, option.stack=mip-only.",
    ),
]
Templates = Annotated[
    Path | None,
    typer.Option(
        "--templates",
        metavar="DIR",
        exists=True,
        file_okay=False,
        help="A folder of your own roles and templates, searched before the built-in one. "
        "Templates can run any code: use only folders that you trust.",
    ),
]
Output = Annotated[Format, typer.Option("--output", "-o", help="A table for people, JSON for programs.")]
