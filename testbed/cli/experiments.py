"""What the commands that carry out experiments share: an engine, the image, a folder for evidence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.cli.complete import complete_evidence
from testbed.cli.labs import narrated
from testbed.cli.output import note
from testbed.errors import writing

if TYPE_CHECKING:
    from ipaddress import IPv4Network

    from testbed.engine.api import Engine
    from testbed.evidence.verdicts import Verdicts
    from testbed.experiment.evidence import Evidence
    from testbed.lab.progress import Progress

EvidenceTarget = Annotated[
    Path | None,
    typer.Option(
        "--evidence",
        metavar="DIR|FILE",
        help="Save the evidence in this folder, or in one file: FILE.zip or FILE.tar.zst. `testbed report` "
        "shows it. Runs and verdicts that are there already are replaced; until there are new verdicts, "
        "verdicts.old.json has the old.",
        autocompletion=complete_evidence,
    ),
]
Keys = Annotated[
    bool,
    typer.Option(
        "--keys",
        help="Keep the labs' keys (IKE, Mobile IP) in the rendered files; else they are redacted. Also write "
        "the session keys of IKE and ESP of each run for Wireshark.",
    ),
]
JUnitFile = Annotated[
    Path | None, typer.Option("--junit", metavar="FILE", help="Also write the verdicts as JUnit XML.")
]


@dataclass(frozen=True, slots=True)
class Laboratory:
    """What every experiment needs."""

    engine: Engine
    image: str
    pool: IPv4Network
    evidence: Evidence
    progress: Progress


@contextmanager
def laboratory(kept: Path | None, junit: Path | None = None, *, keys: bool = False) -> Iterator[Laboratory]:
    """Reach the engine, with the image built; evidence goes to `kept`, else where it is thrown away.

    The labs' keys are part of it only with `keys`.

    What is inside may be stopped by a signal as by Ctrl-C. Raises `UsageError` for what cannot be written,
    `junit` included, now and not when everything is decided.
    """
    from testbed.engine.channel import ChannelEngine
    from testbed.engine.image import ensure_node_image
    from testbed.engine.provision import reach_engine
    from testbed.evidence.archive import packed
    from testbed.experiment.evidence import Evidence
    from testbed.lab.addresses import choose_pool
    from testbed.lab.interrupt import stoppable

    pool = choose_pool()
    _check_writable(junit)
    with (
        TemporaryDirectory(prefix="testbed-") as scratch,
        stoppable(),
        packed(kept or Path(scratch) / "evidence") as folder,
    ):
        evidence = Evidence(folder, keys=keys)
        with closing(reach_engine(note)) as engine:
            image = ensure_node_image(engine, note, detail=partial(note, level=1))
            with closing(ChannelEngine(engine)) as through, narrated() as progress:
                yield Laboratory(through, image.name, pool, evidence, progress)


def write_junit(verdicts: Verdicts, file: Path | None) -> None:
    """Write the verdicts as JUnit XML if a file was named for it. Raises `UsageError`."""
    from testbed.report.junit import junit

    if file is not None:
        with writing(file):
            file.write_text(junit(verdicts), encoding="utf-8")


def _check_writable(file: Path | None) -> None:
    if file is not None:
        with writing(file):
            new = not file.exists()
            file.open("ab").close()
            if new:  # who looks for it after an interruption finds none rather than an empty one
                file.unlink()


def say_where(kept: Path | None) -> None:
    """Where the evidence is and what to do with it."""
    if kept:
        note(f"evidence in {kept}; testbed report {quote(str(kept))} makes a page of it")
