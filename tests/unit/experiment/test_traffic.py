"""The probe and the session against each other on this machine, and what is made of their reports."""

import json
import socket
import subprocess
import sys
import threading
import time

import pytest

from testbed.agreed import MADE_UP, PROBE_MARKER, READABLE
from testbed.claim.probe import ProbeReport
from testbed.node import probe, session

MS = 1_000_000


def report(lost, count=100, every=5):
    """A report in which the packets of some numbers did not come back; 1 ms there, 1 ms back."""
    sent = [[number, number * every * MS] for number in range(count)]
    back = [[number, stamp + 2 * MS] for number, stamp in sent if number not in lost]
    there = [[number, stamp + MS] for number, stamp in sent if number not in lost]
    return ProbeReport.read(
        every / 1000,
        [{"event": "sent", "rows": sent}, {"event": "returned", "rows": back}],
        [{"event": "reflected", "rows": there}],
    )


def test_no_loss_is_no_outage():
    assert report([]).outages() == [] and report([]).longest() == 0 and report([]).lost == 0


def test_outages_run_from_the_last_packet_before_to_the_first_after():
    (gap,) = report(range(10, 20)).outages()
    assert gap.lost == 10 and gap.ms == pytest.approx(55)
    first, second = report([*range(10, 20), 40]).outages()
    assert (first.lost, second.lost) == (10, 1) and second.ms == pytest.approx(10)


def test_an_outage_that_does_not_end_is_not_over():
    (gap,) = report(range(60, 100)).outages()
    assert gap.ended is None and gap.ms is None
    assert report(range(60, 100)).longest() == pytest.approx((99 - 59) * 5 - 2)
    assert "never ended" in str(report(range(60, 100)))


def test_nothing_ever_came_back():
    everything = report(range(100))
    assert everything.lost == 100 and everything.longest() == pytest.approx(99 * 5)


def test_loss_is_told_by_direction():
    both = ProbeReport(0.005, sent={0: 0, 1: 5, 2: 10}, reflected={0: 1, 1: 6}, returned={0: 2})
    assert (both.lost, both.lost_there, both.lost_back) == (2, 1, 1)


def test_markers_can_be_found():
    for marker in (PROBE_MARKER, session.MARKER.encode(), MADE_UP.encode()):
        assert READABLE.encode() in marker


def start(module, *arguments):
    command = [sys.executable, "-m", f"testbed.node.{module}", *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def messages(program):
    return [json.loads(line) for line in program.stdout]


def free_port(kind=socket.SOCK_DGRAM):
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return str(sock.getsockname()[1])


def test_probe_and_reflector():
    port = free_port()
    reflector = start("probe", "reflect", "--port", port)
    assert json.loads(reflector.stdout.readline())["event"] == "ready"
    sender = start(
        "probe", "send", "--source", "127.0.0.1", "--to", "127.0.0.1", "--port", port, "--every", "2"
    )
    assert json.loads(sender.stdout.readline())["event"] == "ready"
    time.sleep(0.3)
    sender.stdin.write("stop\n")
    sender.stdin.flush()
    said = messages(sender)
    reflector.stdin.close()
    both = ProbeReport.read(0.002, said, messages(reflector))
    assert sender.wait(5) == 0 and reflector.wait(5) == 0
    assert len(both.sent) > 50 and not both.unsendable
    assert both.lost_there == 0 and both.lost <= 1  # at most the very last one is not waited for
    stamps = [both.sent[number] for number in sorted(both.sent)]
    assert stamps == sorted(stamps)


def test_the_probe_counts_what_it_could_not_send():
    sender = start("probe", "send", "--source", "127.0.0.1", "--to", "203.0.113.1", "--every", "2")
    assert json.loads(sender.stdout.readline())["event"] == "ready"
    time.sleep(0.05)
    began = time.monotonic()
    sender.stdin.close()
    both = ProbeReport.read(0.002, messages(sender), [])
    assert time.monotonic() - began < probe.GRACE + 2
    assert both.sent and both.unsendable == set(both.sent) and both.lost == len(both.sent)


class Echo(threading.Thread):
    """An echo service that can be told to swallow what comes, or to hang up."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = str(self.listener.getsockname()[1])
        self.deaf = False
        self.start()

    def run(self):
        self.peer, _ = self.listener.accept()
        while data := self.peer.recv(65536):
            if not self.deaf:
                self.peer.sendall(data)


@pytest.fixture
def talk():
    echo = Echo()
    program = start("session", "--source", "127.0.0.1", "--to", "127.0.0.1", "--port", echo.port)
    assert json.loads(program.stdout.readline())["event"] == "connected"
    yield echo, program
    program.kill()
    program.wait()


def check(program, within):
    program.stdin.write(f"check {within}\n")
    program.stdin.flush()
    return json.loads(program.stdout.readline())


def test_a_session_lives_while_new_data_comes_back(talk):
    _, program = talk
    answer = check(program, 5)
    assert answer["event"] == "check" and answer["alive"] and answer["echoed"] > 0
    program.stdin.write("stop\n")
    program.stdin.flush()
    (last,) = messages(program)
    assert last["event"] == "closed" and last["reason"] == "stopped"


def test_a_silent_session_is_broken_and_may_come_back(talk):
    echo, program = talk
    echo.deaf = True
    answer = check(program, 0.3)
    assert not answer["alive"] and answer["after"] >= 0.3
    echo.deaf = False
    assert check(program, 5)["alive"]


def test_a_session_the_other_side_ended_is_broken_at_once(talk):
    echo, program = talk
    assert check(program, 5)["alive"]
    echo.peer.shutdown(socket.SHUT_RDWR)
    echo.peer.close()
    time.sleep(0.1)
    answer = check(program, 30)
    assert not answer["alive"] and answer["reason"]


def test_no_connection_is_reported():
    port = free_port(socket.SOCK_STREAM)
    program = start("session", "--source", "127.0.0.1", "--to", "127.0.0.1", "--port", port)
    (last,) = messages(program)
    assert last["event"] == "closed" and "refused" in last["reason"].lower()
