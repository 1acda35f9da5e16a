"""What the commands that carry out experiments share: an engine, the image, a folder for evidence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from testbed.cli.options import reading
from testbed.cli.output import emit, note
from testbed.errors import ExitCode, UsageError, writing

if TYPE_CHECKING:
    from ipaddress import IPv4Network

    from testbed.engine.api import Engine
    from testbed.evidence.folder import EvidenceFolder
    from testbed.evidence.handoff import HandOffs
    from testbed.evidence.verdicts import Claim, Verdicts
    from testbed.experiment.claims.plan import Scenario
    from testbed.experiment.claims.verify import Verification
    from testbed.experiment.evidence import Evidence
    from testbed.lab.progress import Progress
    from testbed.report.baseline import Worse

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
Jobs = Annotated[int, typer.Option("--jobs", metavar="N", min=1, max=16, help="Labs up at the same time.")]
Retries = Annotated[
    int,
    typer.Option(
        "--retries",
        metavar="N",
        min=0,
        max=9,
        help="Try a claim that is not reproduced again, so many times; one that needed it is called flaky.",
    ),
]
FailFast = Annotated[
    bool, typer.Option("--fail-fast", help="Stop at the first run that does not hold; the rest is not tried.")
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard", metavar="N/M", help="Only the Nth of M parts of the claims, for M machines side by side."
    ),
]
Baseline = Annotated[
    Path | None,
    typer.Option(
        "--baseline",
        metavar="EVIDENCE",
        help="Exit with 1 only where this earlier evidence had something better.",
        autocompletion=complete_evidence,
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

    def verification(
        self,
        *,
        jobs: int,
        templates: Path | None = None,
        keep: bool = False,
        retries: int = 0,
        fail_fast: bool = False,
        existing: str | None = None,
    ) -> Verification:
        """A verification here, with what its command was asked for."""
        from testbed.experiment.claims.verify import Verification

        return Verification(
            engine=self.engine,
            image=self.image,
            pool=self.pool,
            evidence=self.evidence,
            templates=templates,
            jobs=jobs,
            keep=keep,
            retries=retries,
            fail_fast=fail_fast,
            existing=existing,
            progress=self.progress,
        )


@contextmanager
def laboratory(
    kept: Path | None,
    junit: Path | None = None,
    *,
    keys: bool = False,
    engines: Sequence[str] = (),
    lab: str | None = None,
) -> Iterator[Laboratory]:
    """Reach the engine, with the image built; evidence goes to `kept`, else where it is thrown away.

    The labs' keys are part of it only with `keys`. `engines` are the options `--engine`, `lab` is a running
    lab that is to be used.

    What is inside may be stopped by a signal as by Ctrl-C. Raises `UsageError` for what cannot be written,
    `junit` included, now and not when everything is decided.
    """
    from testbed.engine.channel import ChannelEngine
    from testbed.engine.members import choose_engine, prepare_image
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
        with closing(choose_engine(engines, [lab] if lab else [], note)) as engine:
            image = prepare_image(engine, note, partial(note, level=1))
            with closing(ChannelEngine(engine)) as through, narrated() as progress:
                yield Laboratory(through, image, pool, evidence, progress)


def of_shard(scenarios: Sequence[Scenario], shard: str | None) -> list[Scenario]:
    """The claims that `--shard` leaves. Raises `UsageError`, also where it leaves none."""
    from testbed.experiment.claims.shard import Shard

    if shard is None:
        return list(scenarios)
    left = Shard.parse(shard).take(scenarios)
    if not left:
        claims = sum(len(one.claims) for one in scenarios)
        raise UsageError(
            f"--shard {shard}: no claim is in this part", hint=f"there are {claims} claims in all"
        )
    return left


def earlier_verdicts(baseline: Path | None) -> Verdicts | None:
    """The verdicts of `--baseline`, read now: it may be where the new evidence goes. Raises `UsageError`."""
    if baseline is None:
        return None
    found = _read(baseline).verdicts
    if found is None:
        raise UsageError(f"{baseline} has no verdicts", hint="name evidence of verify or matrix")
    return found


def earlier_handoffs(baseline: Path | None) -> HandOffs | None:
    """The hand-offs of `--baseline`, read now. Raises `UsageError`."""
    if baseline is None:
        return None
    found = _read(baseline).handoffs
    if found is None:
        raise UsageError(f"{baseline} has no hand-offs", hint="name evidence of measure")
    return found


def _read(evidence: Path) -> EvidenceFolder:
    from testbed.evidence.folder import EvidenceFolder

    with reading(evidence) as folder:
        found = EvidenceFolder(folder)
        found.check()
        _ = found.verdicts, found.handoffs  # kept after the folder is gone
    return found


def end_by_verdicts(verdicts: Verdicts, baseline: Verdicts | None) -> None:
    """Exit with 1 unless all claims are reproduced; with a baseline, where it had a better verdict."""
    from testbed.report.baseline import worse_verdicts

    if baseline is not None:
        end_if_worse(worse_verdicts(verdicts, baseline))
    elif any(one.verdict != "reproduced" for one in verdicts.claims):
        raise typer.Exit(ExitCode.FAILED)


def end_if_worse(worse: Sequence[Worse]) -> None:
    """Name what was better in the baseline; exit with 1 if anything was."""
    for one in worse:
        note(f"worse: {one}")
    if worse:
        raise typer.Exit(ExitCode.FAILED)
    note("nothing is worse than in the baseline")


def verdict_word(claim: Claim) -> str:
    """A verdict as tables have it."""
    return f"{claim.verdict} (flaky)" if claim.flaky else claim.verdict


def emit_troubles(claims: Sequence[Claim]) -> None:
    """Why claims are not reproduced, what earlier attempts came to, and how many are reproduced."""
    for one in claims:
        if one.reason:
            emit(f"\n{one.id} is {one.verdict}: {one.reason}")
        for number, attempt in enumerate(one.attempts, 1):
            emit(f"\n{one.id} was {attempt.verdict} at attempt {number}: {attempt.reason}")
    good = sum(one.verdict == "reproduced" for one in claims)
    flaky = sum(one.flaky for one in claims)
    emit(f"\n{good} of {len(claims)} reproduced" + (f", {flaky} of them flaky" if flaky else ""))


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
