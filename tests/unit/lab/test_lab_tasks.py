from __future__ import annotations

import _thread
import signal
import threading
import time
from functools import partial

import pytest

from testbed.engine.api import EngineError, NotFoundError
from testbed.errors import ErrorGroup
from testbed.lab.interrupt import stoppable
from testbed.lab.tasks import Task, run_tasks


def test_what_is_needed_comes_first_and_the_list_decides_the_rest() -> None:
    done: list[str] = []
    run_tasks(
        [
            Task("late", lambda: done.append("late"), frozenset({"early", "nobody"})),
            Task("early", lambda: done.append("early")),
            Task("last", lambda: done.append("last")),
        ],
        workers=1,
    )
    assert done == ["early", "late", "last"]


def test_at_most_so_many_at_once() -> None:
    running, most = 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1

    run_tasks([Task(str(number), work) for number in range(12)], workers=3)
    assert most == 3


def test_what_wants_to_be_alone_with_something_is() -> None:
    holders: dict[str, int] = {"a": 0, "b": 0}
    together = threading.Barrier(2, timeout=5)

    def hold(*names: str) -> None:
        for name in names:
            holders[name] += 1
            assert holders[name] == 1
        if len(names) == 1:
            together.wait()
        time.sleep(0.005)
        for name in names:
            holders[name] -= 1

    wants = [("a", "b"), ("a",), ("b",), ("a", "b"), ("b",), ("a",)]
    run_tasks(
        [
            Task(str(n), lambda names=names: hold(*names), alone=frozenset(names))
            for n, names in enumerate(wants)
        ]  # type: ignore[misc]
    )


def fail(error: Exception) -> None:
    raise error


def test_after_a_failure_nothing_is_begun() -> None:
    done: list[str] = []
    with pytest.raises(EngineError, match="no"):
        run_tasks(
            [
                Task("bad", lambda: fail(EngineError("no"))),
                Task("good", lambda: done.append("good"), frozenset({"bad"})),
            ]
        )
    assert done == []


def test_several_failures_are_told_together_without_their_consequences() -> None:
    barrier = threading.Barrier(3)

    def failing(error: Exception) -> None:
        barrier.wait(5)
        raise error

    errors = (EngineError("one"), EngineError("two"), NotFoundError("a consequence"))
    tasks = [Task(str(error), lambda error=error: failing(error)) for error in errors]  # type: ignore[misc]
    with pytest.raises(ErrorGroup) as group:
        run_tasks(tasks)
    assert sorted(error.message for error in group.value.errors) == ["one", "two"]


def test_interrupted_it_waits_for_what_runs_and_begins_nothing() -> None:
    done: list[str] = []

    def slow() -> None:
        _thread.interrupt_main()
        time.sleep(0.1)
        done.append("slow")

    with pytest.raises(KeyboardInterrupt):
        run_tasks([Task("slow", slow), Task("next", lambda: done.append("next"), frozenset({"slow"}))])
    assert done == ["slow"]


def test_told_to_stop_it_begins_nothing_more() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run_tasks(
            [Task(name, partial(done.append, name)) for name in ("one", "two")],
            1,
            stopping=lambda: bool(done),
        )
    assert done == ["one"]


def test_mistakes_of_ours_are_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        run_tasks([Task("bug", lambda: fail(ZeroDivisionError()))])


def test_what_several_jobs_say_alike_is_said_once() -> None:
    together = threading.Barrier(2, timeout=5)

    def full() -> None:
        together.wait()
        raise EngineError("the pool is full", hint="another one")

    with pytest.raises(EngineError, match="the pool is full") as caught:
        run_tasks([Task("one", full), Task("two", full)])
    assert not isinstance(caught.value, ErrorGroup)


def test_a_process_and_its_group_signalled_at_once_is_one_request() -> None:
    with stoppable():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.2)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_only_a_person_is_impatient() -> None:
    """A supervisor repeats SIGTERM while the process is there: that must not keep it from clearing up."""
    with stoppable():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        time.sleep(0.2)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.raise_signal(number)
        time.sleep(0.2)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with stoppable(), pytest.raises(KeyboardInterrupt):  # another command
        signal.raise_signal(signal.SIGTERM)
