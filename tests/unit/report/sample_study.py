"""The records of a study, made up: outages that grow with the round-trip time, claims that mostly hold."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from testbed.evidence.study import Row, StudyRecord, StudyTask, TaskRecord

OPTIONS = {
    "network.internet.loss": ["0%", "1%", "2%", "10%"],
    "node.mn.encapsulation": ["ip-in-ip", "gre"],
}
RTTS = (0.0, 40.0, 100.0)
TRIPS = {"solutions/mobike": 4, "solutions/dual-ha": 2}
"""Topology → round trips of a move."""


def study(repetitions: int = 3) -> StudyRecord:
    """A study of hand-offs and two claims."""
    return StudyRecord(name="made-up", title="Loss, made up", tasks=list(_tasks(repetitions)))


def _tasks(repetitions: int) -> Iterator[StudyTask]:
    number = itertools.count(1)
    for repetition in range(1, repetitions + 1):
        for topology, claim in itertools.product(TRIPS, ("", "5.6-few-messages", "5.4-alone")):
            for values in itertools.product(*OPTIONS.values()):
                yield StudyTask(
                    key=f"{next(number):032x}",
                    kind="claim" if claim else "handoff",
                    topology=topology,
                    stack="mip-in-ipsec",
                    claim=claim,
                    options=dict(zip(OPTIONS, values, strict=True)),
                    repetition=repetition,
                )


def finished(made: StudyRecord, moves: int = 4) -> list[TaskRecord]:
    """A record of each task."""
    chance = random.Random(1)
    return [
        TaskRecord(
            task=task,
            seconds=20.0,
            finished="2026-11-30T03:00:00+00:00",
            testbed="0.1.0",
            host=f"lab-{number % 2 + 1}",
            engine="docker 20.10.24",
            kernel="6.1.0",
            cpu="AMD EPYC",
            load=1.5,
            image="testbed-node:0123456789ab",
            image_id="sha256:0123456789abcdef",
            rows=[verdict(task)] if task.claim else list(_moves(task, moves, chance)),
        )
        for number, task in enumerate(made.tasks)
    ]


def verdict(task: StudyTask) -> Row:
    """What a claim came to: at 10 % loss the last repetition refutes, and the first is undecided."""
    if task.options["network.internet.loss"] == "10%" and task.claim == "5.4-alone":
        if task.repetition == 3:
            return Row(claim=task.claim, verdict="refuted", reason="no packet came through within 5 s")
        if task.repetition == 1:
            return Row(claim=task.claim, verdict="inconclusive", reason="the machine was busy")
    return Row(claim=task.claim, verdict="reproduced", late_ms=3.0)


def _moves(task: StudyTask, moves: int, chance: random.Random) -> Iterator[Row]:
    loss = float(task.options["network.internet.loss"].rstrip("%"))
    for rtt in RTTS:
        for move in range(1, moves + 1):
            again = 1000.0 if chance.random() < 2 * loss / 100 else 0.0
            outage = 20 + TRIPS[task.topology] * rtt + chance.expovariate(1 / 6) + again
            ended = chance.random() > loss / 500
            yield Row(
                rtt_ms=rtt,
                measured_rtt_ms=rtt + 0.4,
                move=move,
                outage_ms=round(outage, 3) if ended else None,
                lost=round(outage / 10),
                late_ms=4.0,
            )
