"""What the benchmarks share: labs to measure in, commands in nodes, tables."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from testbed.engine.api import Container, Engine
from testbed.engine.connect import connect
from testbed.engine.docker import DockerEngine
from testbed.engine.image import ensure_node_image
from testbed.lab.addresses import choose_pool
from testbed.lab.down import remove_labs
from testbed.lab.state import ActualLab, find_lab
from testbed.lab.up import bring_up
from testbed.topology.load import load_topology

Row = Sequence[str]
BUSY: Final = 1.0  # load average above which a run is worth repeating
LOAD: Final = os.getloadavg()[0]  # before we began


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--markdown", action="store_true", help="print the tables as in docs/benchmarks.md")
    return parser


def note(text: str) -> None:
    """Tell on standard error what goes on."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def engine_and_image() -> Iterator[tuple[DockerEngine, str]]:
    """Connect to the engine and have the node image there, so that nothing is built while we measure."""
    if LOAD > BUSY:
        note(f"load average is {LOAD:.1f}: what else runs here takes part in the measurement")
    with closing(connect()) as engine:
        yield engine, ensure_node_image(engine, note).name


@contextmanager
def lab(engine: Engine, image: str, topology: str, name: str, sets: Sequence[str]) -> Iterator[ActualLab]:
    """Bring up a lab, and remove it whatever happens."""
    loaded = load_topology(topology, sets=list(sets))
    note(f"bringing up {name} ({topology})")
    try:
        bring_up(engine, loaded, lab=name, image=image, pool=choose_pool())
        yield find_lab(engine, name)
    finally:
        remove_labs(engine, name)


def run(engine: Engine, container: Container, *command: str) -> str:
    """Run a command in a node and return what it prints; raises RuntimeError when it fails."""
    with engine.execute(container.id, command) as session:
        output = {"stdout": b"", "stderr": b""}
        for stream, data in session:
            output[stream] += data
        code = session.exit_code()
    if code:
        said = b" ".join(output.values()).decode(errors="replace")
        raise RuntimeError(f"{container.name}: {' '.join(command)}: exit code {code}: {said[-500:]}")
    return output["stdout"].decode(errors="replace")


def iperf(engine: Engine, client: Container, *options: str) -> dict[str, Any]:
    """Run an iperf3 client; return the `end` part of its report."""
    report = json.loads(run(engine, client, "iperf3", "--json", *options))
    return dict(report["end"])


def print_table(title: str, head: Row, rows: Sequence[Row], *, markdown: bool) -> None:
    """Print a table; the first column is text, the others are numbers."""
    if markdown:
        print(f"\n### {title}\n")
        print(f"| {' | '.join(head)} |")
        print(f"|{'|'.join(['---', *['---:'] * (len(head) - 1)])}|")
        for row in rows:
            print(f"| {' | '.join(row)} |")
        return
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    print(f"\n{title}")
    for row in [head, *rows]:
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        print("  " + "  ".join(cells).rstrip())


def print_machine(engine: Engine) -> None:
    """Print what the figures depend on besides the testbed."""
    facts = engine.facts()
    print(
        f"\n{facts.cpus} cores, {facts.memory / 2**30:.0f} GiB, {facts.name} {facts.version}, "
        f"Linux {facts.kernel.split('-')[0]}, Python {platform.python_version()}; "
        f"load average before {LOAD:.1f}"
    )


def load_file(name: str) -> str:
    """Return the text of a file beside this one."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
