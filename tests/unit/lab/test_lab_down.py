from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from testbed.engine import names
from testbed.engine.api import EngineError, NetworkSpec
from testbed.engine.fake import FakeEngine
from testbed.errors import TestbedError
from testbed.lab.down import remove_labs
from testbed.lab.up import BroughtUp

Up = Callable[..., BroughtUp]


def test_labels_are_enough(engine: FakeEngine, up: Up) -> None:
    up()
    up(lab="other")
    engine.calls.clear()
    removed = remove_labs(engine, "small")
    assert sorted(removed.containers) == ["testbed-small-east", "testbed-small-middle", "testbed-small-west"]
    assert sorted(removed.networks) == ["testbed-small-left", "testbed-small-right"]
    assert {box.spec.labels[names.LAB] for box in engine.boxes.values()} == {"other"}
    assert engine.calls == {"containers": 2, "networks": 2, "remove_container": 3, "remove_network": 2}


def test_twice_is_fine(engine: FakeEngine, up: Up) -> None:
    up()
    assert len(remove_labs(engine, "small")) == 5
    assert len(remove_labs(engine, "small")) == 0


def test_all(engine: FakeEngine, up: Up) -> None:
    up()
    up(lab="other")
    assert len(remove_labs(engine, None)) == 10
    assert not engine.boxes and not engine.network_specs


def test_what_is_no_lab_stays(engine: FakeEngine, up: Up) -> None:
    up()
    spec = replace(engine.box("west").spec, name="mine", labels={"org.example": "x"}, endpoints=())
    engine.create_container(spec)
    remove_labs(engine, None)
    assert [box.spec.name for box in engine.boxes.values()] == ["mine"]


def test_only_what_one_run_made(engine: FakeEngine, up: Up) -> None:
    up()
    old = engine.box("west").spec.labels[names.RUN]
    engine.box("west").stop()
    up()
    assert remove_labs(engine, "small", run=engine.box("west").spec.labels[names.RUN]).containers == {
        "testbed-small-west"
    }
    assert {box.spec.labels[names.RUN] for box in engine.boxes.values()} == {old}


def test_what_fails_at_first_is_tried_again(engine: FakeEngine, up: Up) -> None:
    up()
    failing = iter(range(4))

    def fail(id: str) -> EngineError | None:
        return EngineError("try later") if next(failing, None) is not None else None

    engine.failures["remove_container"] = fail
    assert len(remove_labs(engine, "small")) == 5


def test_what_cannot_be_removed_is_named(engine: FakeEngine, up: Up) -> None:
    up()
    network = engine.box("west").spec.endpoints[0].network
    spec = engine.box("west").spec
    taken = {endpoint.address for box in engine.boxes.values() for endpoint in box.spec.endpoints}
    subnet = next(each.subnet for each in engine.network_specs.values() if each.name == network)
    address = next(a for a in list(subnet.hosts())[1:] if a not in taken)
    engine.create_container(
        replace(spec, name="stranger", labels={}, endpoints=(replace(spec.endpoints[0], address=address),))
    )
    with pytest.raises(
        TestbedError, match=r"could not remove testbed-small-left: .*active endpoints"
    ) as error:
        remove_labs(engine, "small", patience=0.3)
    assert "docker network inspect" in str(error.value.hint)
    assert [box.spec.name for box in engine.boxes.values()] == ["stranger"]


def test_somebody_else_removes_it_too(engine: FakeEngine, up: Up) -> None:
    up()
    listed = engine.containers({names.LAB: "small"})
    for box in list(engine.boxes):
        engine.remove_container(box)
    engine.failures["containers"] = lambda name: None
    stale = iter([listed])
    real = engine.containers
    engine.containers = lambda labels: next(stale, None) or real(labels)  # type: ignore[method-assign]
    assert remove_labs(engine, "small").networks == {"testbed-small-left", "testbed-small-right"}


def test_what_a_killed_up_had_asked_for_last_is_waited_for(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine goes on making a network although nobody waits for it any more."""
    monkeypatch.setattr("testbed.lab.down._STRAGGLERS", 0.5)
    spec = NetworkSpec("testbed-cut-left", IPv4Network("198.18.0.0/29"), {names.LAB: "cut"})
    late = threading.Timer(0.2, engine.create_network, (spec,))
    late.start()
    removed = remove_labs(engine, "cut")
    late.join()
    assert removed.networks == {"testbed-cut-left"}
    assert not engine.networks({names.LAB: "cut"})
