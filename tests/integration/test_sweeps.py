"""A study carried out on this engine: nothing twice, and no lab outlives the worker of its task."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import command
from test_verify import AT_HOME

from testbed.api import remove_study
from testbed.engine import names
from testbed.engine.docker import DockerEngine
from testbed.sweep.plan import Plan, load_plan
from testbed.sweep.store import Store

STUDY = """
name: {name}
topologies: [at-home.yaml]
claims: [at-home]
repetitions: 2
"""
WORKER = """
import sys
from testbed.sweep.worker import in_process
in_process(sys.stdin.read(), lambda: False)
"""
COMES_WITHIN = GOES_WITHIN = 120.0


@pytest.fixture
def study(engine: DockerEngine, node_image: str, tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "at-home.yaml").write_text(AT_HOME)
    file = tmp_path / "study.yaml"
    file.write_text(STUDY.format(name=f"sweep-{tmp_path.parent.name}"))
    yield file
    remove_study(load_plan(file).study.name)


def left(engine: DockerEngine, plan: Plan) -> int:
    """How much the engine has of labs of a study."""
    label = {names.STUDY: plan.study.name}
    return len(engine.containers(label)) + len(engine.networks(label))


def waited(engine: DockerEngine, plan: Plan, nodes: int, within: float) -> bool:
    """Wait until the engine has so much of a study: so many nodes, or nothing at all."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if (
            (len(engine.containers({names.STUDY: plan.study.name})) == nodes)
            if nodes
            else not left(engine, plan)
        ):
            return True
        time.sleep(0.1)
    return False


def test_a_study_is_carried_out_once_and_a_killed_worker_leaves_no_lab(
    engine: DockerEngine, study: Path
) -> None:
    plan = load_plan(study)
    with subprocess.Popen([sys.executable, "-c", WORKER], stdin=subprocess.PIPE, text=True) as worker:
        assert worker.stdin is not None
        worker.stdin.write(plan.assignments[0].model_dump_json())
        worker.stdin.close()
        try:
            assert waited(engine, plan, 2, COMES_WITHIN)
        finally:
            worker.kill()
    assert waited(engine, plan, 0, GOES_WITHIN)

    done = command("sweep", "run", str(study))
    assert done.returncode == 0 and "2 reproduced" in done.stdout, done.stdout + done.stderr
    store = Store(study.with_suffix(".results"))
    records = store.finished(plan.record)
    assert [row.verdict for one in records for row in one.rows] == ["reproduced"] * 2
    again = command("sweep", "run", str(study), "--resume")
    assert again.returncode == 0 and store.finished(plan.record) == records  # with the times of the first run
    assert not left(engine, plan)
    evidence = command("judge", str(store.root / records[0].task.evidence))
    assert evidence.returncode == 0 and "reproduced" in evidence.stdout, evidence.stderr
