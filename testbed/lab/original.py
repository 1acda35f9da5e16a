"""A running lab as it was rendered: the yardstick of `diff`, and what `reset` goes back to."""

from __future__ import annotations

from pathlib import Path

from testbed.engine.api import Engine
from testbed.errors import UsageError
from testbed.lab.choices import recorded
from testbed.lab.plan import make_plan
from testbed.lab.secrets import lab_secrets
from testbed.lab.state import ActualLab
from testbed.render import RenderedLab, render_lab
from testbed.topology.load import load_topology
from testbed.topology.loaded import LoadedTopology


def original_topology(engine: Engine, lab: ActualLab) -> LoadedTopology:
    """Load what a lab was brought up from, with the same options.

    Raises `UsageError` where the file or the template folder is gone, `TopologyError` where it is not valid
    any more.
    """
    before = recorded(engine, lab)
    file = before.file if before and before.file else lab.topology
    sets = before.sets if before else ()
    templates = Path(before.templates) if before and before.templates else None
    try:
        return load_topology(file, sets=sets, templates=templates)
    except UsageError as error:
        raise UsageError(
            f"lab {lab.name} was brought up from {file}: {error.message}", hint=error.hint
        ) from error


def original_files(engine: Engine, lab: ActualLab, topology: LoadedTopology) -> RenderedLab:
    """Render a lab once more, with its own secrets.

    Raises `UsageError` where that is not what its nodes were made with: the file has changed since.
    """
    rendered = render_lab(
        topology,
        lab=lab.name,
        secrets=lab_secrets(engine, lab.containers),
        templates=topology.templates,
    )
    running = {name: each for name, each in lab.nodes.items() if each.state == "running"}
    # Without drift, all that is left are reasons why the nodes that run are not those of the topology.
    plan = make_plan(rendered, lab, original_image(lab, rendered))
    changed = {name: why for name, why in plan.reasons.items() if name in running}
    if changed:
        name, why = next(iter(changed.items()))
        raise UsageError(
            f"{topology.file} is not what lab {lab.name} was brought up from any more: {name}: {why}",
            hint="the file, or testbed itself, has changed since: testbed up applies that",
        )
    return rendered


def original_image(lab: ActualLab, rendered: RenderedLab) -> str:
    """The image of the nodes that name none of their own; "" where every node does."""
    own = {name for name, node in rendered.nodes.items() if node.image is not None}
    return next((each.image for name, each in lab.nodes.items() if name not in own), "")
