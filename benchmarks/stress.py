"""No verdict that load can turn: the whole matrix, again and again, with busy loops beside it.

Prints how many claims were reproduced, inconclusive and refuted in each round, and every claim that was not
reproduced with its reason. Required is that none is ever refuted; exit code 1 if one was.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.common import arguments, engine_and_image, note, print_machine, print_table
from testbed.evidence.verdicts import Verdicts
from testbed.experiment.claims.plan import choose_scenarios, plan_stages, share_labs
from testbed.experiment.claims.verify import Verification
from testbed.experiment.evidence import Evidence
from testbed.lab.addresses import choose_pool


def main() -> None:
    """Measure."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loops", type=int, default=2, help="busy loops beside the matrix")
    parser.add_argument("--jobs", type=int, default=3, help="labs up at the same time")
    parser.add_argument("--evidence", type=Path, help="keep each round's evidence in a folder in this one")
    options = parser.parse_args()
    rows, refuted = [], 0
    with engine_and_image() as (engine, image), TemporaryDirectory(prefix="stress-") as scratch:
        for number in range(1, options.rounds + 1):
            folder = (options.evidence or Path(scratch)) / f"round-{number}"
            scenarios = choose_scenarios()
            labs = share_labs(plan_stages(scenarios), options.jobs)
            began = time.monotonic()
            with busy(options.loops):
                verdicts = Verification(
                    engine, image, choose_pool(), Evidence(folder), jobs=options.jobs
                ).verify_all(scenarios, labs)
            rows.append(row(number, verdicts, time.monotonic() - began))
            refuted += sum(claim.verdict == "refuted" for claim in verdicts.claims)
            note(json.dumps(dict(zip(HEAD, rows[-1], strict=True)), ensure_ascii=False))
            for claim in verdicts.claims:
                if claim.verdict != "reproduced":
                    note(f"{claim.id} is {claim.verdict}: {claim.reason}")
        print_table(f"The matrix beside {options.loops} busy loops", HEAD, rows, markdown=options.markdown)
        print_machine(engine)
    if refuted:
        sys.exit(1)


HEAD = ("round", "reproduced", "inconclusive", "refuted", "timers late, median", "worst", "seconds")


def row(number: int, document: Verdicts, seconds: float) -> tuple[str, ...]:
    """One round: the verdicts, and how late the machine was in its runs."""
    verdicts = Counter(claim.verdict for claim in document.claims)
    late = sorted(
        facts.health.late_ms
        for claim in document.claims
        for facts in (claim.run, claim.control)
        if facts and facts.health
    )
    return (
        str(number),
        str(verdicts["reproduced"]),
        str(verdicts["inconclusive"]),
        str(verdicts["refuted"]),
        f"{late[len(late) // 2]:.0f} ms" if late else "–",
        f"{late[-1]:.0f} ms" if late else "–",
        f"{seconds:.0f}",
    )


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """So many processes that do nothing but take up a processor."""
    processes = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(loops)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _spin() -> None:
    while True:
        pass


if __name__ == "__main__":
    main()
