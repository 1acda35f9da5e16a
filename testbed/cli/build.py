"""`testbed build`: the node image alone."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from testbed.cli.app import MACHINE, command
from testbed.cli.options import Output
from testbed.cli.output import Format, emit_json, emit_text, note
from testbed.errors import UsageError


@command("build", panel=MACHINE)
def build(
    base: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="Start from this Debian trixie image.")
    ] = None,
    mirror: Annotated[
        str | None, typer.Option(metavar="URL", help="Bootstrap from this Debian mirror.")
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Build the image again, with today's packages, even if it is there."),
    ] = False,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE", help="Also write the image to this tar file.")
    ] = None,
    load: Annotated[
        Path | None,
        typer.Option("--load", metavar="FILE", help="Take the image out of a file of --save; build nothing."),
    ] = None,
    name: Annotated[
        bool,
        typer.Option("--name", help="Print the image's name alone: it has a hash of all that goes in."),
    ] = False,
    output: Output = Format.table,
) -> None:
    """Build the image that nodes run, unless it is there; `up` does so by itself.

    Without options it starts from Debian's public image where a registry answers, and else bootstraps from
    the Debian mirror that this machine's apt uses. -v shows what the tools say. For the cache of a CI system
    --name is the key, --save and --load are what is kept.
    """
    from testbed.engine.image import ensure_node_image, load_node_image, node_image_name
    from testbed.engine.provision import reach_engine

    if name:
        emit_text(node_image_name())
        return
    if load:
        if base or mirror or force or save:
            raise UsageError("--load builds nothing, so no other option goes with it")
        with closing(reach_engine(note)) as engine:
            emit_text(load_node_image(engine, load))
        return
    with closing(reach_engine(note)) as engine:
        image = ensure_node_image(
            engine, note, base=base, mirror=mirror, force=force, detail=partial(note, level=1)
        )
        if save:
            engine.save_image(image.name, save)
            note(f"saved in {save}")
    if output is Format.json:
        emit_json(asdict(image))
    else:
        emit_text(image.name)
        note(f"{'built' if image.built else 'there already'}, made from {image.base}")
