"""Tasks shared out: none twice, another worker where one fails, and a table of what came of them."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from contextlib import nullcontext
from pathlib import Path

import pytest
from sweep_world import Played, full_disk, outcome, study_file

from testbed.cli import main
from testbed.cli.output import verbosity
from testbed.errors import UsageError
from testbed.evidence.study import StudyRecord
from testbed.lab.progress import Silent
from testbed.sweep import child
from testbed.sweep.assignment import Assignment, Outcome, Trouble
from testbed.sweep.plan import Plan, load_plan
from testbed.sweep.run import ATTEMPTS, Sweep
from testbed.sweep.store import Store
from testbed.sweep.table import write_table
from testbed.sweep.worker import in_process

ONE_EACH = """
name: few
topologies: [plain-mip]
options: {network.internet.loss: [0%, 1%, 2%]}
handoff: {moves: 1}
"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return load_plan(study_file(tmp_path, ONE_EACH + "repetitions: 4\n"))


@pytest.fixture
def store(tmp_path: Path, plan: Plan) -> Store:
    made = Store(tmp_path / "results")
    made.open(plan.record)
    return made


def test_all_is_carried_out_once_and_one_at_a_time_on_each_worker(plan: Plan, store: Store) -> None:
    workers = Played("a", "b")
    records = Sweep(plan, store, workers, Silent()).carry_out()
    assert [one.task for one in records] == plan.record.tasks
    assert set(workers.asked.values()) == {1} and workers.most == 1
    assert {one.worker for one in records} == {"a", "b"}
    assert (store.root / records[0].task.evidence).read_bytes() == b"evidence"
    more = Played("a")
    assert Sweep(plan, store, more, Silent()).carry_out() == records and not more.asked


def test_interrupted_it_keeps_what_is_finished_and_goes_on_from_there(plan: Plan, store: Store) -> None:
    let = threading.Event()

    def play(worker: str, assignment: Assignment) -> Outcome:
        if workers.asked.total() == 5:
            os.kill(os.getpid(), signal.SIGINT)
            let.wait(5)
        return outcome(assignment)

    workers = Played("a", play=play)
    with pytest.raises(KeyboardInterrupt):
        Sweep(plan, store, workers, Silent()).carry_out()
    let.set()
    assert len(workers.stopped) == 1 and len(store.finished(plan.record)) == 4
    rest = Played("a")
    assert len(Sweep(plan, store, rest, Silent()).carry_out()) == 12
    assert rest.asked.total() == 8


def test_what_one_machine_cannot_do_another_does(plan: Plan, store: Store) -> None:
    workers = Played(
        "good", "full", play=lambda worker, one: full_disk() if worker == "full" else outcome(one, worker)
    )
    sweep = Sweep(plan, store, workers, Silent())
    assert {one.worker for one in sweep.carry_out()} == {"good"}
    assert not sweep.failures and max(workers.asked.values()) == 2


def test_what_a_worker_had_that_is_gone_another_does(plan: Plan, store: Store) -> None:
    class Dying(Played):
        """Nothing comes back from the worker that dies."""

        lost: Future[Outcome] | None = None

        def submit(self, worker: str, assignment: Assignment) -> Future[Outcome]:
            if worker == "dying":
                self.workers.remove(worker)
                self.lost = Future()
                return self.lost
            return super().submit(worker, assignment)

    workers = Dying("dying", "good")
    sweep = Sweep(plan, store, workers, Silent())
    assert {one.worker for one in sweep.carry_out()} == {"good"} and not sweep.failures
    assert workers.lost is not None and workers.lost.cancelled()
    assert set(workers.asked.values()) == {1} and len(workers.asked) == 12


def test_what_comes_to_nothing_anywhere_is_named_and_tried_by_the_next_sweep(
    plan: Plan, store: Store
) -> None:
    bad = plan.assignments[3].task

    def play(worker: str, assignment: Assignment) -> Outcome:
        if assignment.task == bad:
            raise RuntimeError("no module named testbed")
        return outcome(assignment)

    workers = Played("a", "b", play=play)
    sweep = Sweep(plan, store, workers, Silent())
    assert len(sweep.carry_out()) == 11 and workers.asked[bad.key] == ATTEMPTS
    (failure,) = sweep.failures
    assert failure.task == bad and "no module named testbed" in failure.trouble.message
    assert len(Sweep(plan, store, Played("a"), Silent()).carry_out()) == 12


def test_a_worker_writes_no_file_but_those_of_its_task(plan: Plan, store: Store) -> None:
    def play(worker: str, assignment: Assignment) -> Outcome:
        came = outcome(assignment)
        assert came.record is not None
        elsewhere = assignment.task.model_copy(update={"key": "../../evil"})
        return came.model_copy(update={"record": came.record.model_copy(update={"task": elsewhere})})

    sweep = Sweep(plan, store, Played("a", play=play), Silent())
    assert sweep.carry_out() == [] and len(sweep.failures) == 12
    assert {one.trouble.message for one in sweep.failures} == {"the worker returned another task"}
    assert not list(store.root.parent.glob("**/evil*"))


def test_a_record_is_the_last_thing_written(plan: Plan, store: Store) -> None:
    """A store that was killed in between has no finished task without evidence."""
    (store.root / plan.record.tasks[0].evidence).mkdir()
    with pytest.raises(UsageError, match="Is a directory"):
        store.keep(outcome(plan.assignments[0]))
    assert not store.finished(plan.record)


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UsageError, match="holds no study"):
        Store(tmp_path).open(StudyRecord(name="x", tasks=[]))


def test_the_table_has_a_row_for_each_move(plan: Plan, store: Store) -> None:
    from pyarrow import parquet

    records = Sweep(plan, store, Played("a"), Silent()).carry_out()
    text, columns = write_table(store.root, records)
    with text.open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 24 and {one["network.internet.loss"] for one in lines} == {"0%", "1%", "2%"}
    table = parquet.read_table(columns)
    assert table.num_rows == 24 and table.column_names == list(lines[0])
    assert str(table.schema.field("outage_ms").type) == "double"
    assert [f"{value}" for value in table["outage_ms"].to_pylist()] == [one["outage_ms"] for one in lines]


CHILD = """
import os, signal, sys, threading
from pathlib import Path
from testbed.sweep.child import die_with
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
assert die_with(int(sys.argv[2]))
Path(sys.argv[1]).write_text(str(os.getpid()))
while not stop.wait(0.05): pass
Path(sys.argv[1] + ".cleared").touch()
sys.exit(130)
"""
WORKER = """
import sys
from testbed.sweep.worker import in_process
in_process("{}", lambda: False, (sys.executable, "-c", sys.argv[2], sys.argv[1]))
"""


def _appears(file: Path) -> None:
    deadline = time.monotonic() + 60
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert file.exists()


def test_a_worker_that_is_killed_takes_the_process_of_its_task_with_it(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    with subprocess.Popen([sys.executable, "-c", WORKER, str(told), CHILD]) as worker:
        try:
            _appears(told)
            assert not told.with_name("pid.cleared").exists()
        finally:
            worker.kill()
    _appears(told.with_name("pid.cleared"))


def test_a_task_that_nobody_wants_is_asked_to_stop(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    command = (sys.executable, "-c", CHILD, str(told))
    came = in_process("{}", told.exists, command)
    assert came.trouble is not None and came.trouble.message == "stopped"
    assert told.with_name("pid.cleared").exists()


def test_a_process_that_dies_is_cleared_up_after(monkeypatch: pytest.MonkeyPatch) -> None:
    cleared: list[str] = []
    monkeypatch.setattr("testbed.sweep.worker.clear_up", lambda: cleared.append("x") or "; not removed: y")
    command = (sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    came = in_process("{}", lambda: False, command)
    assert cleared and came.trouble is not None and came.trouble.elsewhere
    assert came.trouble.message == "the process of the task ended with signal 9; not removed: y"


class _EndsAsTheWaitDoes(Future[Outcome]):
    """A task that ends at the moment at which a look whether it has ended gives up."""

    def result(self, timeout: float | None = None) -> Outcome:
        if timeout is not None:
            self.set_result(Outcome(evidence="there"))
            raise TimeoutError
        return super().result()


def test_a_task_that_ends_between_two_looks_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    future = _EndsAsTheWaitDoes()
    monkeypatch.setattr(child, "wait", lambda futures, seconds: future.set_result(Outcome(evidence="there")))
    assert child.await_outcome(future).evidence == "there"


def test_what_carrying_a_task_out_raises_is_raised() -> None:
    future: Future[Outcome] = Future()
    future.set_exception(TimeoutError("of the engine"))
    with pytest.raises(TimeoutError, match="of the engine"):
        child.await_outcome(future)


def test_the_extra_is_named_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("testbed.sweep.cluster.EXTRA", ("distributed_nowhere",))
    assert main(["sweep", "run", str(study_file(tmp_path))]) == 3
    error = " ".join(capsys.readouterr().err.split())
    assert "sweeps need the Python packages distributed_nowhere" in error
    root = Path(__file__).parents[3]
    assert f"-m pip install -e '{root}[sweep]'" in error
    monkeypatch.setattr("testbed.sweep.cluster.checkout", lambda: None)  # as installed from a wheel
    assert main(["sweep", "run", str(study_file(tmp_path))]) == 3
    assert "-m pip install 'testbed[sweep]'" in " ".join(capsys.readouterr().err.split())


def test_the_command_says_what_it_found_and_begins_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verbosity, "level", 0)
    monkeypatch.setattr("testbed.sweep.cluster.dask_workers", lambda scheduler: nullcontext(Played("a")))
    file = study_file(tmp_path, ONE_EACH)
    assert main(["sweep", "run", str(file)]) == 0
    printed = capsys.readouterr()
    assert "3 of 3: plain-mip mip-only" in printed.err and "3 of 3 tasks finished" in printed.out
    assert "outage at RTT 40 ms" in printed.out and "median 82 ms of 2 moves" in printed.out
    assert main(["sweep", "run", str(file)]) == 2
    assert "3 of the 3 tasks are finished" in capsys.readouterr().err
    assert main(["sweep", "run", str(file), "--resume", "-o", "json"]) == 0
    assert '"finished": 3' in capsys.readouterr().out
    assert main(["sweep", "plan", str(file)]) == 0
    assert "3 tasks, 3 of them finished; the rest takes a worker about 0 s" in capsys.readouterr().out


def test_what_failed_is_printed_with_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trouble = Trouble(message="the worker has another testbed", hint="install the same version")
    workers = Played("a", play=lambda worker, assignment: Outcome(trouble=trouble))
    monkeypatch.setattr("testbed.sweep.cluster.dask_workers", lambda scheduler: nullcontext(workers))
    assert main(["sweep", "run", str(study_file(tmp_path, ONE_EACH))]) == 1
    printed = capsys.readouterr().out
    assert printed.count("the worker has another testbed\n  hint: install the same version\n") == 3
    assert "0 of 3 tasks finished" in printed


def test_a_task_alone_is_carried_out_for_workflow_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = Played("a")
    monkeypatch.setattr("testbed.sweep.cluster.dask_workers", lambda scheduler: nullcontext(asked))
    file = study_file(tmp_path, ONE_EACH)
    results = tmp_path / "study.results"
    (results / "tasks").mkdir(parents=True)  # as they do beforehand
    assert main(["sweep", "plan", str(file), "-o", "json"]) == 0
    keys = [one["key"] for one in json.loads(capsys.readouterr().out)["tasks"]]
    assert main(["sweep", "run", str(file), "--resume", "--task", keys[1]]) == 0
    assert dict(asked.asked) == {keys[1]: 1}
    found = {one.relative_to(results).as_posix() for one in results.rglob("*") if one.is_file()}
    assert found == {"study.json", f"tasks/{keys[1]}.json", f"tasks/{keys[1]}.tar.zst"}
    assert len(Store(results).study().tasks) == 3
    assert main(["sweep", "run", str(file), "--resume", "--task", "none"]) == 2
    assert "the study has no task none" in capsys.readouterr().err
    assert main(["sweep", "run", str(file), "--resume"]) == 0
    assert set(asked.asked.values()) == {1} and (results / "results.csv").is_file()
