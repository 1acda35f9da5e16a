from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import pytest
from _pytest.pytester import SysModulesSnapshot
from plugin_world import IMAGE, MOBILE, SMALL, Nodes

from testbed.engine.fake import FakeEngine

Run = Callable[..., pytest.RunResult]


@pytest.fixture(autouse=True)
def modules_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytester forgets modules that its runs load: other tests would meet their classes twice."""
    forget = partial(sys.modules.pop, "test_other", None)
    monkeypatch.setattr(SysModulesSnapshot, "restore", lambda self: forget())


@pytest.fixture
def nodes() -> Nodes:
    return Nodes()


@pytest.fixture
def engine(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """The engine that the plugin reaches."""
    engine = FakeEngine(command=nodes)
    monkeypatch.setattr("testbed.pytest_plugin.pool.reach_engine", lambda say: engine)
    image = SimpleNamespace(name=IMAGE)
    monkeypatch.setattr("testbed.pytest_plugin.pool.ensure_node_image", lambda engine, say: image)
    monkeypatch.setattr("testbed.lab.down._STRAGGLERS", 0.0)
    return engine


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Run tests in a pytest of their own, beside small.yaml and plain.yaml."""
    (pytester.path / "small.yaml").write_text(SMALL)
    (pytester.path / "plain.yaml").write_text(MOBILE)
    pytester.makeini("[pytest]\n")

    def run(text: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(test_other=text)
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:xdist", *options)

    return run
