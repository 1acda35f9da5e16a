"""The `tun` data plane whose process dies or hangs; one that only remembers stands for it."""

import os
import signal
import sys
import threading
import time
from ipaddress import IPv4Address

import pytest

from testbed.mobileip.core.api import FormerTunnel, TunnelEnd
from testbed.mobileip.tunnel import tun
from testbed.mobileip.tunnel.api import PlaneError, Side, Tunnel
from testbed.mobileip.tunnel.merging import Frames

MN, OTHER, HA, COA = map(IPv4Address, ("192.0.2.100", "192.0.2.101", "203.0.113.2", "198.51.100.70"))
REMEMBERS = """
import json, socket, sys
control, known = socket.socket(fileno=int(sys.argv[1])), {}
while data := control.recv(65536):
    answers, message = [], json.loads(data)
    for request in message["requests"]:
        if request.get("local") == "0.0.0.0":
            answers.append({"error": "no such address"})
            continue
        if "set" in request:
            known.update(dict.fromkeys(request["set"], request["ends"]))
        elif "remove" in request:
            known.pop(request["remove"], None)
        reply = {"counters": {"encapsulated": len(known)}, "discarded": [{"reason": "refused"}]}
        answers.append(reply if "counters" in request else {})
    if message["answer"]:
        control.send(json.dumps(answers).encode())
"""


class Plane(tun.TunPlane):
    """Its process is known."""

    @property
    def process(self):
        return self._process

    def known(self):
        """How many tunnels the process knows."""
        return self._ask({"counters": True})["counters"]["encapsulated"]


@pytest.fixture
def plane(monkeypatch, tmp_path):
    program = tmp_path / "worker.py"
    program.write_text(REMEMBERS)
    spawn = os.posix_spawn

    def spawn_another(path, arguments, environment, **more):
        return spawn(path, [sys.executable, "-S", str(program), arguments[6]], environment, **more)

    monkeypatch.setattr(tun, "open_device", lambda name: os.open(os.devnull, os.O_RDWR))
    monkeypatch.setattr(tun, "silence", lambda netlink, devices: None)
    monkeypatch.setattr(tun, "answer_again", lambda netlink, devices: None)
    monkeypatch.setattr(os, "posix_spawn", spawn_another)
    plane = Plane(Side.HOME, None)
    plane.anchor = "lo"
    plane.set(Tunnel(MN, HA, (TunnelEnd(COA),)))
    plane.set(Tunnel(OTHER, HA, (TunnelEnd(COA),)))
    yield plane
    plane.close()


def test_all_is_well(plane):
    process = plane.process
    assert plane.known() == 2
    assert not plane.check() and plane.process == process
    plane.remove(OTHER)
    plane.remove(OTHER)
    assert plane.known() == 1


@pytest.mark.parametrize("fate", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_has_died_or_hangs_is_replaced_by_one_that_knows_all_tunnels(plane, monkeypatch, fate):
    monkeypatch.setattr(tun, "PATIENCE", 0.2)
    plane.remove(OTHER)
    process = plane.process
    os.kill(process, fate)
    assert plane.check() and not plane.check()
    assert plane.process != process
    assert plane.known() == 1
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


@pytest.mark.parametrize("fate", [signal.SIGKILL, signal.SIGSTOP])
def test_a_change_finds_the_process_dead(plane, monkeypatch, fate):
    monkeypatch.setattr(tun, "PATIENCE", 0.2)
    plane.check()
    os.kill(plane.process, fate)
    plane.remove(OTHER)
    assert plane.known() == 1
    assert plane.check()


GOOD, BAD = Tunnel(OTHER, HA, (TunnelEnd(HA),)), Tunnel(MN, IPv4Address(0), (TunnelEnd(COA),))


def test_routes_are_made_meanwhile_and_then_it_is_said_what_was_refused(plane):
    assert plane.set_all([BAD, GOOD]) == ["lo", "lo"]
    plane.settled(OTHER)
    with pytest.raises(PlaneError, match="the tunnel process: no such address"):
        plane.settled(MN)
    plane.settled(MN)  # that is said once
    with pytest.raises(PlaneError, match="no such address"):
        plane.set(BAD)
    plane.set_all([BAD])
    plane.set_all([GOOD])  # nobody has asked about the other
    assert plane.known() == 2
    plane.settled(MN)


def test_only_what_may_be_refused_is_waited_for(plane, monkeypatch):
    """That is a local address which the process may not have open."""
    waited, wait = [], plane._answers
    monkeypatch.setattr(plane, "_answers", lambda: waited.append(1) or wait())

    def waits(tunnel):
        waited.clear()
        plane.set(tunnel)
        return bool(waited)

    assert not waits(GOOD)
    elsewhere = Tunnel(MN, COA, (TunnelEnd(HA),))
    assert waits(elsewhere)  # the process may have closed the address that this one had before
    assert waits(GOOD)
    assert not waits(elsewhere)
    assert waits(Tunnel(MN, COA, (TunnelEnd(HA),), former=(FormerTunnel(OTHER, TunnelEnd(HA)),)))
    assert waits(Tunnel(MN, COA, (TunnelEnd(HA),), delivery=TunnelEnd(OTHER)))
    plane.remove(OTHER)
    assert waits(elsewhere) and not waits(elsewhere)
    assert waits(Tunnel(MN, COA, ())) and waits(elsewhere)  # without ends a tunnel is down
    os.kill(plane.process, signal.SIGKILL)
    assert plane.check()
    assert waits(elsewhere) and not waits(elsewhere)


@pytest.mark.parametrize("fate", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("late", [False, True])
def test_the_process_dies_before_it_has_made_tunnels(plane, monkeypatch, fate, late):
    monkeypatch.setattr(tun, "PATIENCE", 0.2)
    plane.check()
    process = plane.process
    if late:
        os.kill(process, signal.SIGSTOP)  # it does not come to read them
    else:
        os.kill(process, fate)
    plane.set_all([GOOD])
    if late:
        os.kill(process, fate)
    plane.settled(OTHER)
    assert plane.known() == 2 and plane.process != process


class Late:
    """A control socket on a starved machine: its timers are late."""

    def __init__(self, control):
        self._control = control

    def __getattr__(self, name):
        return getattr(self._control, name)

    def recv(self, size):
        try:
            return self._control.recv(size)
        except TimeoutError:
            time.sleep(0.25)
            raise


@pytest.mark.parametrize("starved", [True, False])
def test_a_process_that_is_only_starved_as_we_are_is_waited_for(plane, monkeypatch, starved):
    monkeypatch.setattr(tun, "PATIENCE", 0.2)
    monkeypatch.setattr(tun, "NOISE", 0.2)  # what other tests beside this one may cause
    plane.check()
    process = plane.process
    if starved:
        plane._control = Late(plane._control)
    os.kill(process, signal.SIGSTOP)
    goes_on = threading.Timer(0.8, os.kill, (process, signal.SIGCONT))
    goes_on.start()
    try:
        assert plane.check() is not starved
        assert (plane.process == process) == starved
    finally:
        goes_on.cancel()


def test_a_process_that_hangs_for_good_is_replaced_on_a_starved_machine_too(plane, monkeypatch):
    monkeypatch.setattr(tun, "PATIENCE", 0.2)
    monkeypatch.setattr(tun, "START_PATIENCE", 1.0)
    plane.check()
    plane._control = Late(plane._control)
    os.kill(plane.process, signal.SIGSTOP)
    assert plane.check()


def test_what_the_process_discards_is_heard_of_once(plane):
    plane.counters()
    assert plane.discarded() == [{"reason": "refused"}]
    assert plane.discarded() == []


def test_counters_never_go_back(plane):
    assert plane.counters() == {"encapsulated": 2}
    os.kill(plane.process, signal.SIGKILL)
    assert plane.check()
    assert plane.counters() == {"encapsulated": 4}


def test_a_device_that_was_deleted_needs_a_new_start(plane, monkeypatch):
    plane.anchor = "gone0"
    with pytest.raises(PlaneError, match="gone0 has been deleted"):
        plane.check()


def test_a_device_that_merges_is_missed_too(plane):
    plane._frames = Frames(1, bytes(6))
    plane._merging = "lo"
    assert plane.check() is False
    plane._merging = "gone0"
    with pytest.raises(PlaneError, match="gone0 has been deleted"):
        plane.check()
    plane._frames = None


def test_a_new_process_leaves_to_the_kernel_what_the_old_one_did(plane):
    asked = []
    exchange = plane._exchange
    plane._exchange = lambda requests: asked.extend(requests) or exchange(requests)
    plane.leave({COA, HA})  # the process has tunnels to COA
    plane.leave({COA, HA})
    assert asked == [{"skip": [str(HA)]}]
    os.kill(plane.process, signal.SIGKILL)
    assert plane.check()
    assert asked.count({"skip": [str(HA)]}) == 2


def test_a_late_answer_is_not_taken_for_another(plane, monkeypatch):
    monkeypatch.setattr(tun, "PATIENCE", 0.2)
    plane.check()
    process = plane.process
    os.kill(process, signal.SIGSTOP)
    plane.set(Tunnel(MN, HA, (TunnelEnd(COA), TunnelEnd(HA))))
    assert plane.known() == 2
