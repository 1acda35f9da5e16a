from __future__ import annotations

import _thread
import json
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from lab_world import IMAGE, MOBILE, SMALL, Daemons, Told

from testbed.agreed import LACKING
from testbed.engine import names
from testbed.engine.api import (
    ContainerSpec,
    Endpoint,
    EngineError,
    NameTakenError,
    NetworkSpec,
    SubnetOverlapError,
)
from testbed.engine.fake import FakeContainer, FakeEngine, become_ready
from testbed.errors import ExitCode, MachineError, NotReadyError, TestbedError, UsageError
from testbed.lab.interrupt import Interrupted, never
from testbed.lab.state import endpoints, read_labs
from testbed.lab.up import BroughtUp
from testbed.topology.loaded import LoadedTopology

Up = Callable[..., BroughtUp]
Load = Callable[..., LoadedTopology]


def test_a_new_lab(engine: FakeEngine, up: Up, told: Told) -> None:
    done = up()
    assert (done.created, done.removed, done.changed) == (5, 0, True)
    lab = read_labs(engine)["small"]
    assert lab.topology == "small"
    assert sorted(lab.nodes) == ["east", "middle", "west"]
    assert {container.state for container in lab.containers} == {"running"}
    assert told.said == ["lab small: creating 3 nodes on 2 networks"]
    middle = engine.box("middle")
    assert (middle.spec.hostname, middle.spec.image) == ("middle", IMAGE)
    assert middle.spec.sysctls["net.ipv4.ip_forward"] == "1"
    listed = dict(line.split() for line in middle.file("/etc/testbed/endpoints").splitlines())
    assert listed == {str(address): network for network, address in endpoints(lab.nodes["middle"]).items()}
    assert {(str(each.address), each.network) for each in middle.spec.endpoints} == {
        (address, f"testbed-small-{network}") for address, network in listed.items()
    }


def test_few_calls(engine: FakeEngine, up: Up) -> None:
    up()
    made = {"create_network": 2, "create_container": 3, "start_container": 3}
    assert engine.calls == {"networks": 2, "containers": 2, "logs": 3} | made


def test_again_does_nothing(engine: FakeEngine, up: Up, told: Told) -> None:
    up()
    before = dict(engine.boxes)
    told.said.clear()
    engine.calls.clear()
    done = up()
    assert (done.changed, engine.boxes, told.said) == (False, before, [])
    # A look into each of three nodes, and one at what the lab was brought up with.
    assert engine.calls == {"networks": 2, "containers": 2, "logs": 3, "execute": 4}


def test_only_what_has_changed_is_replaced(engine: FakeEngine, up: Up, load: Load, daemons: Daemons) -> None:
    up()
    before = {node: container.id for node, container in read_labs(engine)["small"].nodes.items()}
    done = up(load(SMALL.replace("links: {left: 10.1.0.2}", "links: {left: 10.1.0.9}")))
    lab = read_labs(engine)["small"]
    after = {node: container.id for node, container in lab.nodes.items()}
    assert done.removed == done.created == 1
    assert {node for node in after if after[node] != before[node]} == {"west"}
    # Every node has every name and address in its hosts file: those that stay get the new one.
    hosts = engine.box("west").file("/etc/testbed/hosts")
    assert "10.1.0.9 west\n" in hosts
    assert {node: text.endswith(hosts) for node, text in daemons.live.items()} == {
        "east": True, "middle": True,
    }  # fmt: skip


def test_a_replaced_node_gets_the_keys_that_the_others_have(engine: FakeEngine, up: Up, load: Load) -> None:
    up(load(MOBILE))
    key = json.loads(engine.box("ha").file(names.SECRETS_FILE))
    assert list(key) == ["mobility_key"] and len(key["mobility_key"]) == 32
    engine.box("mn").stop(1)
    up(load(MOBILE))
    assert json.loads(engine.box("mn").file(names.SECRETS_FILE)) == key
    assert key["mobility_key"] in engine.box("mn").file("/etc/mobileip/mobile-node.toml")
    with pytest.raises(KeyError):
        engine.box("cn").file(names.SECRETS_FILE)


def test_keys_survive_in_nodes_that_have_stopped_and_not_otherwise(
    engine: FakeEngine, up: Up, load: Load
) -> None:
    def key() -> str:
        return engine.box("ha").file(names.SECRETS_FILE)

    up(load(MOBILE))
    first = key()
    for box in engine.boxes.values():
        box.stop(1)
    up(load(MOBILE))
    assert key() == first
    for node in ("ha", "mn"):
        engine.remove_container(engine.box(node).id)
    up(load(MOBILE))
    assert key() != first


def test_no_label_holds_a_key(engine: FakeEngine, up: Up, load: Load) -> None:
    up(load(MOBILE))
    (key,) = json.loads(engine.box("ha").file(names.SECRETS_FILE)).values()
    assert not any(key in value for box in engine.boxes.values() for value in box.spec.labels.values())


def test_a_limit_of_processors_stays_until_another_is_given(engine: FakeEngine, up: Up) -> None:
    def limits() -> set[float | None]:
        return {box.spec.cpus for box in engine.boxes.values()}

    up()
    assert limits() == {None}
    assert up(cpus=0.5).created == 3 and limits() == {0.5}
    assert not up().changed
    engine.box("west").stop(1)
    up()
    assert limits() == {0.5}
    assert up(cpus=0).created == 3 and limits() == {None}
    assert not up().changed


def test_somebody_elses_lab_is_left_alone(
    engine: FakeEngine, up: Up, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(names.OWNER_VARIABLE, "anna@box")
    up()
    monkeypatch.setenv(names.OWNER_VARIABLE, "otto@box")
    with pytest.raises(UsageError, match="lab small belongs to anna@box"):
        up()
    up(lab="mine")
    assert {lab.name: lab.owner for lab in read_labs(engine).values()} == {
        "small": "anna@box",
        "mine": "otto@box",
    }


def test_a_node_that_stopped_is_replaced_on_its_old_networks(engine: FakeEngine, up: Up) -> None:
    up()
    engine.box("west").stop(1)
    kept = {engine.box("east").id, engine.box("middle").id, *engine.network_specs}
    done = up()
    assert (done.removed, done.created) == (1, 1)
    assert kept < {*engine.boxes, *engine.network_specs}
    addresses = [e.address for box in engine.boxes.values() for e in box.spec.endpoints]
    assert len(set(addresses)) == len(addresses)


def test_replaced_nodes_keep_their_throwaway_addresses(engine: FakeEngine, up: Up) -> None:
    up()
    before = {box.spec.hostname: box.spec.endpoints for box in engine.boxes.values()}
    for node in ("west", "middle"):
        engine.box(node).stop()
    up()
    assert {box.spec.hostname: box.spec.endpoints for box in engine.boxes.values()} == before


def test_a_node_takes_the_place_of_another_on_a_full_subnet(engine: FakeEngine, up: Up, load: Load) -> None:
    hosts = "".join(
        f"  h{n}: {{roles: [correspondent], links: {{left: 10.1.0.{10 + n}}}}}\n" for n in range(3)
    )
    up(load(SMALL + hosts))
    subnet = next(each.subnet for each in engine.network_specs.values() if each.name.endswith("left"))
    assert subnet.prefixlen == 29
    up(load(SMALL + hosts.replace("h1", "other")))
    assert "other" in read_labs(engine)["small"].nodes


def test_what_the_topology_has_no_more_is_removed(engine: FakeEngine, up: Up, load: Load) -> None:
    up()
    smaller = SMALL.replace("  right: {subnet: 10.2.0.0/24, domain: internet}\n", "").replace(
        ", right: 10.2.0.1", ""
    )
    up(load("\n".join(line for line in smaller.splitlines() if "east" not in line)))
    lab = read_labs(engine)["small"]
    assert sorted(lab.nodes) == ["middle", "west"]
    assert [network.name for network in lab.networks] == ["testbed-small-left"]


def test_a_changed_network_takes_its_nodes_along(engine: FakeEngine, up: Up, load: Load) -> None:
    up()
    west = engine.box("west").id
    done = up(load(SMALL.replace("10.2.0.0/24, domain: internet", "10.2.0.0/24, domain: operator")))
    assert done.removed == 3  # the network and the two nodes on it
    assert engine.box("west").id == west


def test_two_labs_side_by_side(engine: FakeEngine, up: Up) -> None:
    up()
    up(lab="second")
    assert list(read_labs(engine)) == ["second", "small"]
    subnets = [network.subnet for network in engine.network_specs.values()]
    assert not any(a.overlaps(b) for a in subnets for b in subnets if a is not b)


def test_a_lab_stays_with_its_topology(engine: FakeEngine, up: Up, load: Load) -> None:
    up()
    with pytest.raises(UsageError, match="lab small was brought up from topology small, not other") as error:
        up(load(SMALL.replace("name: small", "name: other")))
    assert error.value.hint is not None and "--name" in error.value.hint
    assert len(engine.boxes) == 3


def test_a_bad_name_is_refused(up: Up) -> None:
    with pytest.raises(UsageError, match="cannot be called 'Small'"):
        up(lab="Small")


def test_two_at_once(engine: FakeEngine, up: Up) -> None:
    go_on, begun = threading.Event(), threading.Event()

    def wait_then_be_ready(box: FakeContainer) -> None:
        begun.set()
        assert go_on.wait(5)
        become_ready(box)

    engine.behave = wait_then_be_ready
    first = threading.Thread(target=up)
    first.start()
    assert begun.wait(5)
    with pytest.raises(UsageError, match="another testbed is changing lab small"):
        up()
    go_on.set()
    first.join(5)
    assert len(engine.boxes) == 3


# Subnets


def test_overlaps_that_only_the_engine_sees_are_tried_around(engine: FakeEngine, up: Up) -> None:
    refused: list[str] = []

    def refuse(name: str) -> EngineError | None:
        if len(refused) < 3:
            refused.append(name)
            return SubnetOverlapError("overlaps something")
        return None

    engine.failures["create_network"] = refuse
    up()
    assert len(engine.network_specs) == 2


def test_an_engine_that_refuses_every_subnet(engine: FakeEngine, up: Up) -> None:
    engine.failures["create_network"] = lambda name: SubnetOverlapError("overlaps 198.18.0.0/15")
    with pytest.raises(
        TestbedError, match=r"none of 32 subnets .* overlaps 198(.|\n)*hint: .*--pool"
    ) as error:
        up()
    assert error.value.exit_code == ExitCode.ENVIRONMENT


def test_an_exhausted_pool_leaves_nothing(engine: FakeEngine, up: Up) -> None:
    with pytest.raises(
        MachineError, match="the address pool has no room: a lab takes some 16 addresses, and 8 are free"
    ):
        up(pool=IPv4Network("198.18.0.0/29"))
    assert not engine.boxes and not engine.network_specs


# Failures


def test_a_name_that_is_taken(engine: FakeEngine, up: Up) -> None:
    engine.failures["create_container"] = lambda name: NameTakenError("taken") if "west" in name else None
    with pytest.raises(UsageError, match="testbed-small-west exists in the engine already") as error:
        up()
    assert error.value.exit_code == ExitCode.USAGE
    assert not engine.boxes and not engine.network_specs


def test_what_somebody_else_made_is_not_removed_with_ours(engine: FakeEngine, up: Up) -> None:
    foreign = {names.LAB: "small", names.NETWORK: "left", names.RUN: "another"}

    def meanwhile(name: str) -> EngineError | None:
        if name == "testbed-small-left" and not engine.network_specs.get("foreign"):
            engine.network_specs["foreign"] = NetworkSpec(name, IPv4Network("10.77.0.0/29"), foreign)
        return None

    engine.failures["create_network"] = meanwhile
    with pytest.raises(UsageError, match="testbed-small-left exists"):
        up()
    assert list(engine.network_specs) == ["foreign"]


def test_a_failing_engine_leaves_nothing(engine: FakeEngine, up: Up, told: Told) -> None:
    engine.failures["start_container"] = lambda id: EngineError("no space left on device")
    with pytest.raises(TestbedError, match="no space left") as error:
        up()
    assert error.value.exit_code == ExitCode.ENVIRONMENT
    assert not engine.boxes and not engine.network_specs
    assert told.said[-1] == "lab small: removed what was made"


def test_a_missing_image(engine: FakeEngine, up: Up) -> None:
    with pytest.raises(TestbedError, match="no image other:1, which node") as error:
        up(image="other:1")
    for one in getattr(error.value, "errors", [error.value]):  # of one node, or of several at once
        assert isinstance(one, MachineError) and "testbed build" in str(one.hint)


def test_a_failed_change_of_a_lab_says_so_and_keeps_the_rest(engine: FakeEngine, up: Up, told: Told) -> None:
    up()
    engine.box("west").stop()
    engine.failures["create_container"] = lambda name: EngineError("no")
    with pytest.raises(EngineError):
        up()
    assert len(engine.boxes) == 2
    assert "partly changed" in told.said[-1]


def crashing(box: FakeContainer) -> None:
    box.event("configured", "init")
    if box.spec.hostname == "west":
        box.write("bind: address already in use", "stderr")
        box.event("exit", "echo", code=1, status=256)


def test_a_service_that_ends_is_an_error_with_its_last_words(engine: FakeEngine, up: Up) -> None:
    engine.behave = crashing
    with pytest.raises(TestbedError) as error:
        up()
    assert error.value.message == "\n  ".join(
        ["service echo of node west ended (exit code 1)", "bind: address already in use"]
    )
    assert "testbed logs small west" in str(error.value.hint)
    assert len(engine.boxes) == 3  # left to be looked at


def test_what_a_nodes_kernel_lacks_is_an_error_and_leaves_nothing(engine: FakeEngine, up: Up) -> None:
    def lack(box: FakeContainer) -> None:
        if box.spec.hostname == "east":
            box.event(
                LACKING, "esp", what="esp=kernel, and this kernel has no ESP", hint="load the module esp4"
            )
            box.stop(1)
        else:
            become_ready(box)

    engine.behave = lack
    with pytest.raises(MachineError) as error:
        up()
    assert error.value.message == "node east: esp=kernel, and this kernel has no ESP"
    assert error.value.hint == "load the module esp4"
    assert not engine.boxes


def test_a_node_that_stops_is_an_error(engine: FakeEngine, up: Up) -> None:
    def die(box: FakeContainer) -> None:
        if box.spec.hostname == "east":
            box.write("init: no interface carries 198.18.0.2", "stderr")
            box.stop(1)
        else:
            become_ready(box)

    engine.behave = die
    with pytest.raises(TestbedError, match=r"node east stopped \(Exited \(1\)\)\n  init: no interface"):
        up()


def test_too_late_names_nodes_and_what_they_wait_for(engine: FakeEngine, up: Up) -> None:
    def slow(box: FakeContainer) -> None:
        if box.spec.hostname == "west":
            box.event("configured", "init")
            box.event("ready", "iperf3")
        elif box.spec.hostname == "middle":
            become_ready(box)

    engine.behave = slow
    with pytest.raises(NotReadyError) as error:
        up(timeout=0.2)
    assert error.value.exit_code == ExitCode.NOT_READY
    lines = error.value.message.split("\n  ")
    assert lines[0] == "lab small is not ready in time"
    assert sorted(lines[1:]) == [
        "east is not ready: echo, init, iperf3 not started",
        "west is not ready: echo not started",
    ]
    assert len(engine.boxes) == 3


def test_later_it_takes_up_where_it_was_left(engine: FakeEngine, up: Up) -> None:
    engine.behave = lambda box: None
    with pytest.raises(NotReadyError):
        up(timeout=0.1)
    for box in engine.boxes.values():
        become_ready(box)
    assert up().changed is False


def test_a_node_that_is_up_for_so_long_that_its_log_was_cut(engine: FakeEngine, up: Up) -> None:
    up()
    for box in engine.boxes.values():
        box.lines.clear()
        box.event("renewed", "echo")
    assert up(timeout=1.0).changed is False


# Ctrl-C


def nothing_left(engine: FakeEngine) -> bool:
    return not engine.boxes and not engine.network_specs


@pytest.mark.parametrize("call", ["create_network", "create_container", "start_container"])
def test_interrupted_while_things_are_made(engine: FakeEngine, up: Up, call: str) -> None:
    engine.latency = 0.01
    once = iter([True])

    def interrupt(name: str) -> None:
        if next(once, False):
            _thread.interrupt_main()

    engine.failures[call] = interrupt
    with pytest.raises(KeyboardInterrupt):
        up()
    assert nothing_left(engine)


def test_interrupted_while_it_waits(engine: FakeEngine, up: Up, told: Told) -> None:
    def interrupt(text: str) -> None:
        if text.startswith("waiting"):
            raise KeyboardInterrupt

    engine.behave = lambda box: None
    told.when_shown = interrupt
    with pytest.raises(KeyboardInterrupt):
        up()
    assert nothing_left(engine)


@pytest.mark.parametrize("when", ["started", "waiting"])
def test_told_to_stop_by_another_thread(engine: FakeEngine, up: Up, told: Told, when: str) -> None:
    told_to = threading.Event()

    def see(text: str) -> None:
        if text.startswith(when):
            told_to.set()

    engine.behave = lambda box: None
    told.when_shown = see
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        up(stopping=told_to.is_set, timeout=30.0)
    assert nothing_left(engine) and time.monotonic() - began < 5


@pytest.mark.parametrize("program", ["testbed-drift", "socat"])
@pytest.mark.parametrize("by_signal", [True, False])
def test_interrupted_while_it_looks_into_nodes(
    engine: FakeEngine, up: Up, load: Load, daemons: Daemons, program: str, by_signal: bool
) -> None:
    up(load(MOBILE), lab="mip")
    asked_to, release = threading.Event(), threading.Event()

    def hang(box: FakeContainer, words: Sequence[str], stdin: bytes) -> tuple[bytes, bytes, int]:
        if box.spec.hostname == "mn" and words[0].endswith(program):
            if by_signal:
                signal.raise_signal(signal.SIGINT)
            asked_to.set()
            release.wait(8)
        return daemons(box, words, stdin)

    engine.command = hang
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            up(load(MOBILE), lab="mip", stopping=never if by_signal else asked_to.is_set)
        assert time.monotonic() - began < 3
    finally:
        release.set()
    assert len(engine.boxes) == 6


def test_interrupted_twice_says_what_is_left(engine: FakeEngine, up: Up, told: Told) -> None:
    def interrupt(text: str) -> None:
        if text.startswith(("waiting", "removing")):
            raise KeyboardInterrupt

    engine.behave = lambda box: None
    told.when_shown = interrupt
    with pytest.raises(Interrupted, match=r"left behind: .*testbed-small-east.*testbed-small-right") as error:
        up()
    assert error.value.exit_code == ExitCode.INTERRUPTED
    assert error.value.hint == "testbed down small"


def test_interrupted_while_a_lab_is_changed(engine: FakeEngine, up: Up, told: Told) -> None:
    up()
    engine.box("west").stop()
    engine.failures["create_container"] = lambda name: _thread.interrupt_main()  # type: ignore[func-returns-value]
    with pytest.raises(KeyboardInterrupt):
        up()
    assert engine.box("east") and engine.box("middle")
    assert "partly changed" in told.said[-1]


def test_after_a_killed_up_the_next_one_finishes(engine: FakeEngine, up: Up) -> None:
    up()
    killed = FakeEngine()
    killed.network_specs = dict(engine.network_specs)
    created = engine.box("west")
    engine.remove_container(engine.box("east").id)
    engine.boxes[created.id] = replace(created, state="created")
    assert (up().removed, len(engine.boxes)) == (1, 3)


def test_mobile_nodes_start_last_and_need_not_be_registered(engine: FakeEngine, up: Up, load: Load) -> None:
    order: list[str] = []

    def behave(box: FakeContainer) -> None:
        order.append(box.spec.hostname)
        become_ready(box)

    engine.behave = behave
    up(load(MOBILE), lab="mip")
    assert order[-1] == "mn"
    assert engine.box("mn").spec.labels[names.ROLES] == "mobile-node"


def test_the_fake_engine_is_strict(engine: FakeEngine) -> None:
    subnet = IPv4Network("10.9.0.0/29")
    id = engine.create_network(NetworkSpec("net", subnet, {}))
    with pytest.raises(SubnetOverlapError):
        engine.create_network(NetworkSpec("other", IPv4Network("10.9.0.0/24"), {}))
    endpoint = Endpoint("net", IPv4Address("10.9.0.1"))
    spec = ContainerSpec("box", "box", IMAGE, {}, (endpoint,), b"")
    with pytest.raises(AssertionError, match="unusable"):
        engine.create_container(spec)
    engine.create_container(replace(spec, endpoints=(Endpoint("net", IPv4Address("10.9.0.2")),)))
    with pytest.raises(EngineError, match="active endpoints"):
        engine.remove_network(id)
