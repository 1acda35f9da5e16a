"""`testbed up`: a lab from a topology."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from testbed.agreed import ROAM
from testbed.cli.app import LABS, command
from testbed.cli.complete import complete_attach, complete_stack
from testbed.cli.labs import emit_lab, narrated
from testbed.cli.options import Engines, Output, Sets, Templates, TopologyRef, as_typed, parsed
from testbed.cli.output import Format, as_called, emit, emit_json, note

if TYPE_CHECKING:
    from testbed.lab.status import LabStatus
    from testbed.lab.up import BroughtUp

_LEAST_CPUS: Final = 0.01


def _check_cpus(cpus: float | None) -> float | None:
    """Engines count in hundredths of a processor."""
    if cpus and cpus < _LEAST_CPUS:
        raise typer.BadParameter(f"{cpus:g} is less than {_LEAST_CPUS:g}; 0 means no limit.")
    return cpus


@command("up", panel=LABS)
def up(
    topology: TopologyRef,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="LAB", help="The name of the lab (default: that of the topology)."),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            "--count",
            metavar="N",
            min=1,
            max=999,
            help="Bring up N labs, LAB-1 to LAB-N, as for a class: --count 20 --name student.",
        ),
    ] = None,
    sets: Sets = None,
    stack: Annotated[
        str | None,
        typer.Option(
            "--stack",
            metavar="STACK",
            help="Short for --set option.stack=STACK.",
            autocompletion=complete_stack,
        ),
    ] = None,
    attach: Annotated[
        str | None,
        typer.Option(
            "--attach",
            metavar="NETWORK",
            help="Short for --set option.attach=NETWORK.",
            autocompletion=complete_attach,
        ),
    ] = None,
    reset: Annotated[
        bool,
        typer.Option(
            "--reset",
            help="Go back to the options of the file, and lift a limit of processors. Without this option "
            "a running lab keeps its own.",
        ),
    ] = False,
    templates: Templates = None,
    engines: Engines = None,
    pool: Annotated[
        str | None,
        typer.Option(
            "--pool",
            metavar="PREFIX",
            envvar="TESTBED_POOL",
            help="Where the engine's own addresses for the networks come from; nodes do not use them.",
            show_default="198.18.0.0/15",
        ),
    ] = None,
    cpus: Annotated[
        float | None,
        typer.Option(
            "--cpus",
            metavar="NUMBER",
            min=0,
            callback=_check_cpus,
            help="How many processors each node may use, such as 0.5; 0: as many as there are.",
        ),
    ] = None,
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="TIME", help="How long the nodes may take to become ready.")
    ] = "60s",
    output: Output = Format.table,
) -> None:
    """Create a lab and wait until it is ready; or update a running one and mend what is broken in it.

    A running lab keeps the options it was brought up with unless others are named here. What changes, and
    why, is printed first. Builds the node image where it is absent. Exit code 5 if the lab is not ready in
    time; the lab then stays, so that you can look at it. A mobile node that cannot register where it is, as
    on a hotspot whose foreign agent forwards no IPsec, is no failure: the last line says so, and `no_data` in
    the JSON. Ctrl-C removes what was made.

    With --engine, given for each, a lab is on several engines. Its topology says in `place` which node is
    where; the others are spread. Later commands find the engines by themselves.

    With --count several labs come up side by side, a few at a time, and a table says at the end what became
    of each. The exit code is then that of the first lab that did not come up.
    """
    from testbed.cli.several import report
    from testbed.document.values import parse_duration
    from testbed.engine.members import choose_engine, prepare_image
    from testbed.lab.addresses import choose_pool
    from testbed.lab.several import bring_up_several, lab_names
    from testbed.lab.state import find_lab
    from testbed.lab.status import lab_status
    from testbed.lab.up import bring_up
    from testbed.topology.load import load_topology

    short = {"stack": stack, "attach": attach}
    typed = {f"option.{key}={value}": f"--{key} {value}" for key, value in short.items() if value}
    within, addresses = parsed("--timeout", timeout, parse_duration) / 1000, choose_pool(pool)
    with as_typed(sets, typed):
        loaded = load_topology(topology, sets=[*(sets or ()), *typed], templates=templates)
    own = loaded.name if name is None else name
    labs = [own] if count is None else lab_names(own, count)
    with closing(choose_engine(engines or (), labs, note)) as engine:
        image = prepare_image(engine, note, partial(note, level=1))
        with narrated() as progress:
            begin = partial(
                bring_up,
                engine,
                loaded,
                image=image,
                pool=addresses,
                keep=not reset,
                cpus=0.0 if reset and cpus is None else cpus,
                timeout=within,
            )
            if count is not None:
                outcomes = bring_up_several(engine, loaded, labs, begin, pool=addresses, progress=progress)
                report(engine, outcomes, output)
                return
            done = begin(lab=own, progress=progress)
        lab = find_lab(engine, done.lab)
        status = lab_status(engine, lab, ask=lab.mobile_nodes)
    if output is Format.json:
        emit_json(_facts(done, status))
    else:
        _print(done, status)


def _facts(done: BroughtUp, status: LabStatus) -> dict[str, Any]:
    return {
        **status.to_dict(),
        "created": done.created,
        "removed": done.removed,
        "mended": done.mended,
        "no_data": dict(done.no_data),
        "seconds": round(done.seconds, 3),
    }


def _print(done: BroughtUp, status: LabStatus) -> None:
    from testbed.lab.describe import describe
    from testbed.lab.reason import in_words

    emit_lab(status)
    for node in status.mobile:
        emit(as_called(f"\n{node}: {describe(ROAM, in_words(status, node))}"))
    note(f"\nlab {done.lab} {_what(done, status)}")
    suggestions = status.suggestions()
    if suggestions:
        emit("\nTry next:")
        for line in suggestions:
            emit(f"  {as_called(line)}")


def _what(done: BroughtUp, status: LabStatus) -> str:
    """How far it came. It is called ready only where every mobile node saw a packet come back."""
    from testbed.lab.reason import reason

    if done.no_data:
        failed = [
            f"{node} does not reach its correspondent: {reason(status, node, why)}"
            for node, why in done.no_data.items()
        ]
        # Nodes do not try again by themselves: a claim counts what is sent from its own steps on.
        again = [
            f"testbed move {done.lab} {node} {network} tries again"
            for node in done.no_data
            if (network := (status.mobile.get(node) or {}).get("network"))
        ]
        return f"is up after {done.seconds:.1f} s, but {'; '.join([*failed, *again])}"
    return f"ready in {done.seconds:.1f} s" if done.changed else "was up already, nothing to do"
