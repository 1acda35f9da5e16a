"""The matrix under an ordinary kernel, once with the kernel's data planes and once with those in userspace.

    python tests/kernel/matrix.py [--out DIR] [--within SECONDS] [TOPOLOGY …]

Each topology is verified under a kernel of its own, so that what is done stays when something goes wrong. Run
it again with the same DIR: it goes on with what is missing, and repeats the claims that were inconclusive.
DIR/TOPOLOGY/PLANES/NUMBER.zip is the evidence, for `testbed report`, `judge` and `compare`. In the end it
prints both verdicts of each claim, and what was decided differently; exit code 1 unless all are reproduced.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import inside

from testbed.evidence.archive import opened
from testbed.evidence.folder import EvidenceFolder
from testbed.evidence.verdicts import Claim
from testbed.experiment.claims.plan import choose_scenarios
from testbed.report.compare import ClaimPair, compare

BESIDE = ("nat", "nat-vpn")
"""Topologies with claims that `testbed matrix` has only where they are named."""
_HELD = {True: "held", False: "did not hold", None: "undecided"}


def evidence(folder: Path) -> list[Path]:
    """The evidence of one topology on one kind of data planes, from the first verification to the last."""
    return sorted(folder.glob("*.zip"), key=lambda file: int(file.stem))


def latest(folder: Path, stack: ExitStack) -> dict[str, tuple[Claim, EvidenceFolder]]:
    """Each claim as it was decided last, and the evidence, to be read until `stack` is closed."""
    found: dict[str, tuple[Claim, EvidenceFolder]] = {}
    for file in evidence(folder):
        read = EvidenceFolder(stack.enter_context(opened(file)))
        found |= {claim.id: (claim, read) for claim in (read.verdicts.claims if read.verdicts else ())}
    return found


def undecided(folder: Path) -> list[str]:
    """The claims whose last verdict is `inconclusive`."""
    with ExitStack() as stack:
        decided = latest(folder, stack)
        return [name for name, (claim, _) in decided.items() if claim.verdict == "inconclusive"]


def verify(topology: str, planes: str, folder: Path, within: float) -> None:
    """Verify what has no evidence yet, or was inconclusive. Raises as `inside.run`."""
    before = evidence(folder)
    claims = undecided(folder)
    if before and not claims:
        return
    began = time.monotonic()
    name = f"{len(before) + 1}.zip"
    chosen = [word for claim in claims for word in ("--claim", claim)]
    command = ["testbed", "verify", topology, "--jobs", "1", *chosen, "--evidence", f"/run/out/{name}"]
    done = inside.run(command, folder, within, planes)
    (folder / "log").replace((folder / name).with_suffix(".log"))
    took = f"{topology}, {planes} planes: {time.monotonic() - began:.0f} s"
    if not (folder / name).exists():
        took += f", and no evidence\n{done.output[-2000:]}\n{done.console[-2000:]}"
    print(took, file=sys.stderr, flush=True)


def pairs(folder: Path, stack: ExitStack) -> Iterator[ClaimPair]:
    """Each claim of a topology as it was decided last with both kinds of data planes, or with one alone."""
    both = [latest(folder / planes, stack) for planes in inside.PLANES]
    for name in sorted(both[0].keys() | both[1].keys()):
        found = [one[name] for one in both if name in one]
        if len(found) == len(both):
            (_, first), (_, second) = found
            yield next(claim for claim in compare(first, second).claims if claim.id == name)
        else:
            verdicts = [one[name][0].verdict if name in one else None for one in both]
            reasons = [one[name][0].reason if name in one else None for one in both]
            yield ClaimPair(name, folder.name, (*verdicts,), (*reasons,), ())


def carriers(folder: Path, planes: str, stack: ExitStack) -> str:
    """What carried packets, and in how many of the places of all labs."""
    counted: Counter[str] = Counter()
    for file in evidence(folder / planes):
        read = EvidenceFolder(stack.enter_context(opened(file)))
        for lab in read.verdicts.backends.values() if read.verdicts else ():
            counted.update(lab.carriers.values())
    return ", ".join(f"{carrier} {count}" for carrier, count in counted.most_common())


def state(folders: Sequence[Path]) -> bool:
    """Print both tables and their difference; whether every claim is reproduced in both."""
    good, differences = True, []
    print(f"| topology | claim | {' | '.join(inside.PLANES)} | findings decided differently |")
    print("|---|---|---|---|---|")
    for folder in folders:
        with ExitStack() as stack:
            for claim in pairs(folder, stack):
                differing = [one for one in claim.findings if not one.decided_alike]
                good = good and claim.verdicts == ("reproduced", "reproduced")
                words = [verdict or "–" for verdict in claim.verdicts]
                row = (folder.name, claim.id, *words, f"{len(differing)} of {len(claim.findings)}")
                print(f"| {' | '.join(map(str, row))} |")
                differences += [f"{claim.id}, {planes}: {why}" for planes, why in reasons(claim)]
                for one in differing:
                    seen = zip(inside.PLANES, one.held, one.observed, strict=True)
                    words = [f"{planes}: {_HELD[held]}: {observed}" for planes, held, observed in seen]
                    differences.append(f"{claim.id}, {one.run}, {one.expectation}: {'; '.join(words)}")
    print()
    for folder in folders:
        with ExitStack() as stack:
            for planes in inside.PLANES:
                print(f"{folder.name}, {planes}: {carriers(folder, planes, stack)}")
    print("", *differences, sep="\n")
    return good


def reasons(claim: ClaimPair) -> Iterator[tuple[str, str]]:
    """Why it is not reproduced, on which data planes."""
    for planes, verdict, reason in zip(inside.PLANES, claim.verdicts, claim.reasons, strict=True):
        if verdict not in ("reproduced", None):
            yield planes, f"{verdict}: {reason}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("kernel-matrix"), help="default: kernel-matrix")
    parser.add_argument("--within", type=float, default=3600, help="seconds for a topology; default: 3600")
    parser.add_argument("--only-print", action="store_true", help="run nothing")
    parser.add_argument("topology", nargs="*", help="default: the scenarios, nat and nat-vpn")
    options = parser.parse_args()
    names = options.topology or [*(one.loaded.name for one in choose_scenarios()), *BESIDE]
    folders = [options.out.resolve() / name for name in names]
    if not options.only_print:
        try:
            for folder in folders:
                for planes in inside.PLANES:
                    verify(folder.name, planes, folder / planes, options.within)
        except (FileNotFoundError, RuntimeError, subprocess.CalledProcessError) as error:
            sys.exit(str(error))
    sys.exit(not state(folders))


if __name__ == "__main__":
    main()
