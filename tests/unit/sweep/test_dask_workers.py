"""Dask's workers: what they offer, results that come back, and tasks that are stopped on them."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from sweep_world import outcome, study_file

from testbed.errors import MachineError, UsageError
from testbed.lab.progress import Silent
from testbed.sweep import worker
from testbed.sweep.assignment import Assignment, Outcome
from testbed.sweep.cluster import dask_workers
from testbed.sweep.plan import load_plan

FEW = "name: few\ntopologies: [plain-mip]\nhandoff: {moves: 1}\nrepetitions: 2\n"


def test_a_task_comes_back_from_the_worker_in_this_process_and_another_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, ended = threading.Event(), threading.Event()
    first, second = load_plan(study_file(tmp_path, FEW)).assignments

    def played(assignment: str, unwanted: object, command: object = ()) -> Outcome:
        one = Assignment.model_validate_json(assignment)
        if one.task == first.task:
            return outcome(one)
        began.set()
        while not unwanted():  # type: ignore[operator]
            ended.wait(0.05)
        ended.set()
        return Outcome()

    monkeypatch.setattr(worker, "in_process", played)
    with dask_workers(None) as workers:
        (name,) = workers.names("handoff")
        assert [*workers.names("claim")] == [name]
        came = workers.submit(name, first).result(60)
        assert came.record is not None and came.record.task == first.task and came.record.worker == name
        deadline = time.monotonic() + 60
        while workers._client.futures and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not workers._client.futures  # or Dask would carry it out anew where that worker dies
        future = workers.submit(name, second)
        assert began.wait(60) and not ended.is_set()
        workers.stop([future], Silent())
        assert ended.is_set() and future.cancelled() and not worker._running
        monkeypatch.setattr(worker, "carry_out", lambda assignment: "no outcome")
        assert isinstance(workers.submit(name, first).exception(60), ValueError)  # as of another testbed
        workers._client.close()
        with pytest.raises(MachineError, match="the Dask scheduler is gone"):
            workers.names("claim")


def test_a_scheduler_that_does_not_answer_is_a_wrong_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.sweep.cluster._ANSWERS_WITHIN", 0.2)
    with (
        pytest.raises(UsageError, match="no Dask scheduler answers at"),
        dask_workers("tcp://127.0.0.1:9"),
    ):
        pass
