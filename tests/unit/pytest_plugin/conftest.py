from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
from plugin_world import IMAGE, MOBILE, SMALL, Nodes

# pytester forgets modules that are loaded after it, and what is put into them would be lost.
import testbed.pytest_plugin.claims
import testbed.pytest_plugin.failures
import testbed.pytest_plugin.pool  # noqa: F401
from testbed.engine.fake import FakeEngine

Run = Callable[..., pytest.RunResult]


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
