"""A claim step by step in a running lab, for somebody who looks on: `testbed explain CLAIM --live`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from testbed.claim.claims import Experiment
from testbed.claim.steps import Step
from testbed.engine.api import Engine
from testbed.errors import UsageError
from testbed.evidence.verdicts import KINDS, Kind
from testbed.lab.choices import differences, up_command
from testbed.lab.original import original_topology
from testbed.lab.state import read_labs
from testbed.lesson.bench import opened
from testbed.topology.loaded import LoadedTopology

SIGNS: Mapping[bool | None, str] = {True: "✓", False: "✗", None: "?"}
"""Whether what must be seen was seen; None: undecided."""


@dataclass(frozen=True, slots=True)
class Companion:
    """The person: `say` shows a line, `wait` asks for a key and returns once it was pressed."""

    say: Callable[[str], None]
    wait: Callable[[str], None]


def walk(
    engine: Engine,
    lab: str,
    claim: str,
    labs: Mapping[tuple[Kind, int], LoadedTopology],
    told: Mapping[str, Any],
    companion: Companion,
) -> bool:
    """Carry out each run of a claim, then each control, a step a key; return whether all of it was seen.

    `labs` has the topology that each run needs, `told` what `explain` makes of the claim. Where the lab is
    another than a run needs, the command that makes it so is shown, and its end awaited. Raises `StepError`.
    """
    held = True
    for kind in KINDS:
        experiments = [run for _, run in labs[kind, 1].topology.claims[claim].experiments(kind)]
        for number, run in enumerate(experiments, 1):
            name = kind if len(experiments) == 1 else f"{kind} {number}"
            held &= _walk_run(engine, lab, labs[kind, number], run, name, told[kind][number - 1], companion)
    return held


def _walk_run(
    engine: Engine,
    lab: str,
    needed: LoadedTopology,
    run: Experiment,
    name: str,
    told: Mapping[str, Any],
    companion: Companion,
) -> bool:
    companion.say(f"## The {name}")
    while unlike := _unlike(engine, lab, needed):
        companion.say(f"The {name} needs another lab ({'; '.join(unlike)}). In a second terminal:")
        command = up_command(needed, lab, "--reset")
        companion.say(f"    {command}")
        companion.wait("once it is ready")
    taps = list(dict.fromkeys(tap for one in run.expect for tap in one.part.taps(needed)))
    if taps:
        companion.say("Captured meanwhile, and decided from; look on in a second terminal:")
        for tap in taps:
            companion.say(f"    testbed capture {lab} {tap}")
    with opened(engine, lab, needed, began=0.0) as bench:
        bench.forget()
        watcher = _Watcher(told["steps"], companion)
        decided = bench.try_out(run.steps, run.expect, (name,), watcher)
    companion.say("What must be seen:")
    for words, (_, decision) in zip(told["expect"], decided, strict=True):
        companion.say(f"  {SIGNS[decision.held]} {words['text']}")
        companion.say(f"      {decision.observed}")
    return all(decision.held for _, decision in decided)


class _Watcher:
    """Shows each step, waits for a key, and shows what came of it."""

    def __init__(self, steps: Sequence[Mapping[str, Any]], companion: Companion) -> None:
        self._steps = steps
        self._companion = companion

    def before(self, index: int, step: Step) -> None:
        """Say what comes next, and wait."""
        self._companion.say(f"{index + 1}. {self._steps[index]['text']}")
        self._companion.wait("to do it")

    def after(self, said: str) -> None:
        """Say what came of it."""
        if said:
            self._companion.say(f"   {said}")


def _unlike(engine: Engine, lab: str, needed: LoadedTopology) -> list[str]:
    """How a lab differs from what a run needs, in words; empty where it does not."""
    actual = read_labs(engine, lab).get(lab)
    if actual is None:
        return [f"there is no lab {lab}"]
    try:
        topology = original_topology(engine, actual)
    except UsageError as error:
        return [error.message]
    if topology.name != needed.name:
        return [f"it is {topology.name}, not {needed.name}"]
    # A run moves the mobile node to where it begins: where the lab has it first does not matter.
    return [text for text in differences(topology, needed) if not text.startswith("option.attach ")]
