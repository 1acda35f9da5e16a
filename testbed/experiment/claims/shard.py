"""Claims shared out among machines: `--shard 2/4` decides the second of four parts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from testbed.claim.claims import Claim
from testbed.errors import UsageError
from testbed.evidence.verdicts import KINDS
from testbed.experiment.claims.plan import Scenario, run_seconds


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several parts."""

    number: int  # from 1
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """`2/4`: the second of four. Raises `UsageError`."""
        match = re.fullmatch(r"(\d{1,3})/(\d{1,3})", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise UsageError(
                f"--shard {text}: expected NUMBER/OF", hint="2/4 is the second of four parts; 4/4 the last"
            )
        return cls(int(match[1]), int(match[2]))

    def take(self, scenarios: Sequence[Scenario]) -> list[Scenario]:
        """The claims of this part; every machine that has the same files finds the same parts.

        They are cut in the order of the files into parts that take about as long, as neighbours share labs.
        A scenario without a claim in this part is left out, and a part may be empty.
        """
        lengths = [_seconds(claim) for one in scenarios for claim in one.claims.values()]
        whole, before, mine = sum(lengths), 0.0, iter(lengths)
        taken = []
        for scenario in scenarios:
            claims = {}
            for name, claim in scenario.claims.items():
                seconds = next(mine)
                middle = before + seconds / 2
                before += seconds
                if int(middle * self.of / whole) + 1 == self.number:
                    claims[name] = claim
            if claims:
                taken.append(replace(scenario, claims=claims))
        return taken


def _seconds(claim: Claim) -> float:
    return sum(run_seconds(experiment) for kind in KINDS for _, experiment in claim.experiments(kind))
