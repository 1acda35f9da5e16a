"""`testbed export`: a lab for other tools."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from testbed.cli.app import TOPOLOGIES, command
from testbed.cli.options import Force, Sets, Templates, TopologyRef, check_target, load_typed, one_of
from testbed.cli.output import emit, note
from testbed.errors import writing


class ExportFormat(StrEnum):
    """What can be written."""

    compose = "compose"


@command("export", panel=TOPOLOGIES)
def export(
    topology: TopologyRef,
    directory: Annotated[
        Path, typer.Option("--directory", "-d", metavar="DIR", help="Where to write the project.")
    ],
    format: Annotated[
        ExportFormat, one_of(ExportFormat, "--format", help="A project for Docker Compose.")
    ] = ExportFormat.compose,
    sets: Sets = None,
    templates: Templates = None,
    pool: Annotated[
        str | None,
        typer.Option(
            "--pool", metavar="PREFIX", help="Throwaway subnets of its networks are taken from here."
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Write a Docker Compose project that comes to life without testbed: `./lab up` in it, or compose itself.

    It has keys of its own, so its folder can be entered by its owner alone. No engine is needed.
    """
    from testbed.engine.image import node_image_name
    from testbed.export.compose import compose_project
    from testbed.lab.addresses import choose_pool
    from testbed.lab.secrets import new_secrets
    from testbed.render import render_lab

    loaded = load_typed(topology, sets, templates)
    lab = render_lab(loaded, lab=loaded.name, secrets=new_secrets(), templates=templates)
    project = compose_project(lab, node_image_name(), choose_pool(pool))
    check_target(directory, force)
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
    for file in project.files:
        target = directory / file.path
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.content)
            target.chmod(file.mode)
    for one in project.left_out:
        note(f"left out: {one}")
    emit(f"{directory / 'lab'} up")
