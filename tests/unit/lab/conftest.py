from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from lab_world import IMAGE, MIP, MOBILE, PLACED, SMALL, Daemons, Manager, Run, Told
from underlay import Underlay, join

from testbed.cli import main
from testbed.engine.fake import FakeEngine
from testbed.engine.joined import JoinedEngine
from testbed.lab.addresses import DEFAULT_POOL
from testbed.lab.up import BroughtUp, bring_up
from testbed.topology.load import load_topology
from testbed.topology.loaded import LoadedTopology


@pytest.fixture(autouse=True)
def no_stragglers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine in memory has nothing under way behind one's back."""
    monkeypatch.setattr("testbed.lab.down._STRAGGLERS", 0.0)


@pytest.fixture
def daemons() -> Daemons:
    return Daemons()


@pytest.fixture
def engine(daemons: Daemons) -> FakeEngine:
    return FakeEngine(command=daemons)


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., LoadedTopology]:
    """Load the small topology, or another text."""

    def load(text: str = SMALL, *sets: str) -> LoadedTopology:
        path = tmp_path / "small.yaml"
        path.write_text(text)
        return load_topology(str(path), sets=sets)

    return load


@pytest.fixture
def small(load: Callable[..., LoadedTopology]) -> LoadedTopology:
    return load()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def up(engine: FakeEngine, small: LoadedTopology, told: Told) -> Callable[..., BroughtUp]:
    """Bring up the small topology as lab `small`, or with other arguments."""

    def up(topology: LoadedTopology = small, lab: str = "small", **arguments: object) -> BroughtUp:
        options = {"image": IMAGE, "pool": DEFAULT_POOL, "timeout": 5.0, "progress": told, **arguments}
        return bring_up(engine, topology, lab=lab, **options)  # type: ignore[arg-type]

    return up


@pytest.fixture
def run(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Run:
    monkeypatch.chdir(tmp_path)
    Path(MIP).write_text(MOBILE)
    monkeypatch.setattr("testbed.engine.connect.connect", lambda: engine)
    monkeypatch.setattr("testbed.engine.provision.reach_engine", lambda say: engine)
    image = SimpleNamespace(name=IMAGE)
    monkeypatch.setattr("testbed.engine.image.ensure_node_image", lambda engine, say, **options: image)
    monkeypatch.setattr("testbed.cli.output.verbosity.level", 0)
    monkeypatch.delenv("TESTBED_POOL", raising=False)
    engine.command = Manager()

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        streams = capfd.readouterr()
        return code, streams.out, streams.err

    return run


# Labs on several engines


@pytest.fixture(autouse=True)
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def underlay() -> Underlay:
    return Underlay()


@pytest.fixture
def joined(underlay: Underlay, told: Told) -> JoinedEngine:
    return join(underlay, told)


@pytest.fixture
def up_on(joined: JoinedEngine, load: Callable[..., LoadedTopology], told: Told) -> Callable[..., BroughtUp]:
    def up(text: str = PLACED, *, engine: JoinedEngine = joined, lab: str = "small") -> BroughtUp:
        options = {"image": IMAGE, "pool": DEFAULT_POOL, "timeout": 5.0, "progress": told}
        return bring_up(engine, load(text), lab=lab, **options)  # type: ignore[arg-type]

    return up
