"""A whole verification: runs carried out, again where that was asked for, and the verdicts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from testbed.agreed import ESP_REMEDY
from testbed.claim.claims import Claim
from testbed.errors import MachineError
from testbed.evidence import folder
from testbed.evidence.verdicts import Attempt, Verdicts
from testbed.experiment.claims.crew import Crew, Surroundings
from testbed.experiment.claims.plan import PlannedLab, Scenario, Stage, plan_labs, plan_stages
from testbed.experiment.claims.verdict import ClaimResult, claim_results, verdicts_of
from testbed.experiment.versions import versions
from testbed.lab.doctor import try_in_container


class Verification(Surroundings):
    """Decides claims."""

    def verify(self, scenario: Scenario, labs: Sequence[PlannedLab]) -> Verdicts:
        """Carry out every run and return what verdicts.json says; the evidence is written on the way.

        Interrupted, it takes down what it brought up before KeyboardInterrupt goes on. Raises `UsageError`
        for an existing lab that no run can use.
        """
        self.evidence.begin_verdicts()
        self.evidence.keep_roles(scenario.loaded)
        self.evidence.write_topology(scenario.loaded.text())
        return self._decide([scenario], labs, scenario.loaded.name)

    def verify_all(self, scenarios: Sequence[Scenario], labs: Sequence[PlannedLab]) -> Verdicts:
        """The same for several scenarios, whose claims have names of their own and may share labs."""
        self.evidence.begin_verdicts()
        for scenario in scenarios:
            self.evidence.keep_roles(scenario.loaded)
            self.evidence.write_topology(scenario.loaded.text(), scenario.loaded.name)
        return self._decide(scenarios, labs, "")

    def _decide(self, scenarios: Sequence[Scenario], labs: Sequence[PlannedLab], name: str) -> Verdicts:
        scenarios, labs = self._possible(scenarios, labs)
        crew = Crew(self, labs)
        crew.work()
        backends, claims = crew.backends, {one.id: one for one in claim_results(scenarios, crew.results)}
        programs, machine = crew.programs, crew.machine
        for number in range(1, self.retries + 1):
            again = _not_reproduced(scenarios, claims)
            if not again:
                break
            ids = [one.id(name) for one in again for name in one.claims]
            attempts = {id: (*claims[id].attempts, self._set_aside(claims[id], number)) for id in ids}
            labs = plan_labs(plan_stages(again, self.templates), self.jobs, keep=self.keep)
            crew = Crew(self, labs, attempt=number + 1)
            crew.work()
            backends |= crew.backends
            programs, machine = programs or crew.programs, machine or crew.machine  # before the first run
            for one in claim_results(again, crew.results):
                claims[one.id] = replace(one, attempts=attempts[one.id])
        verdicts = verdicts_of(name, backends, list(claims.values()))
        self.evidence.write_verdicts(verdicts)  # before anything else that could fail
        self.evidence.write(
            folder.VERSIONS,
            versions(
                self.engine,
                self.image,
                keys=self.evidence.has_keys,
                programs=programs,
                machine=machine,
                backends=backends,
            ),
        )
        return verdicts

    def _possible(
        self, scenarios: Sequence[Scenario], labs: Sequence[PlannedLab]
    ) -> tuple[Sequence[Scenario], Sequence[PlannedLab]]:
        """What can be tried on this kernel; what is left out is named. Raises `MachineError` if it is all."""
        asking = {
            one.id(name) for one in scenarios for name, claim in one.claims.items() if _needs_esp(claim)
        }
        if not asking or not (reason := try_in_container(self.engine, self.image).get("esp", "no answer")):
            return scenarios, labs
        why = f"ESP in the kernel, which this machine's does not have ({reason})"
        if not (left := _without(labs, asking)):
            raise MachineError(f"{', '.join(sorted(asking))}: needs {why}", hint=ESP_REMEDY)
        self.progress.say(f"not tried: {', '.join(sorted(asking))} needs {why}")
        return [
            replace(one, claims={name: claim for name, claim in one.claims.items() if not _needs_esp(claim)})
            for one in scenarios
        ], left

    def _set_aside(self, claim: ClaimResult, number: int) -> Attempt:
        """Keep what an attempt came to, and make place for the next."""
        self.progress.say(f"{claim.id}: {claim.verdict} at attempt {number}: {claim.reason}; trying again")
        where = self.evidence.set_aside(claim.id, number)
        return Attempt(verdict=claim.verdict, reason=claim.reason, folder=where)


def _needs_esp(claim: Claim) -> bool:
    return claim.needs is not None and claim.needs.kernel == "esp"


def _not_reproduced(scenarios: Sequence[Scenario], claims: Mapping[str, ClaimResult]) -> list[Scenario]:
    """The scenarios with those of their claims that are not reproduced."""
    left = []
    for one in scenarios:
        wanting = [name for name in one.claims if claims[one.id(name)].verdict != "reproduced"]
        left.append(replace(one, claims={name: one.claims[name] for name in wanting}))
    return [one for one in left if one.claims]


def _without(labs: Sequence[PlannedLab], claims: Collection[str]) -> list[PlannedLab]:
    """The labs without the runs of some claims."""
    left = []
    for lab in labs:
        stages = []
        for stage in lab.stages:
            kept = [[one for one in run.all if one.claim not in claims] for run in stage.runs]
            runs = [replace(first, also=tuple(rest)) for first, *rest in filter(None, kept)]
            stages += [Stage(stage.topology, stage.made, runs)] if runs else []
        left += [PlannedLab(stages)] if stages else []
    return left
