"""Commands and control sockets through an engine that is played."""

import json
import os
import subprocess
import threading
import time

import pytest

from testbed.engine.api import EngineError, NotFoundError
from testbed.errors import StepError
from testbed.experiment.traffic import Program
from testbed.lab.access import EventLog, LabAccess, Stopped
from testbed.lab.captures import Capture, Captures
from testbed.lab.tcpdump import SCRIPT
from testbed.topology.load import load_topology


class PlayedExec:
    """A command that says what it is given to say; with `talk` it answers its input."""

    def __init__(self, pieces=(), code=0, talk=None):
        self.pieces, self.code, self.talk = list(pieces), code, talk
        self.sent, self.closed, self.ended = [], threading.Event(), threading.Event()

    def __iter__(self):
        yield from self.pieces
        if self.talk:
            yield from self.talk(self)

    def send(self, data):
        self.sent.append(data)

    def end_input(self):
        self.ended.set()

    def exit_code(self):
        return self.code

    def close(self):
        self.closed.set()


class PlayedEngine:
    def __init__(self, *sessions):
        self.sessions = list(sessions)
        self.commands = []

    def execute(self, id, command, *, stdin=False, tty=False):
        self.commands.append((id, list(command)))
        session = self.sessions.pop(0)
        if isinstance(session, Exception):
            raise session
        return session


def lab(*sessions):
    return LabAccess(
        PlayedEngine(*sessions),
        "lab",
        load_topology("scenario-2.1"),
        {"mn": "id-mn", "ha": "id-ha", "gw": "id-gw"},
    )


def test_a_command():
    played = lab(PlayedExec([("stdout", b"a"), ("stderr", b"x\nlast\n"), ("stdout", b"b")], code=3))
    done = played.execute("mn", ["true"], within=2)
    assert (done.code, done.text, done.complaint) == (3, "ab", "last")
    assert played.engine.commands == [("id-mn", ["timeout", "--kill-after=1", "2", "true"])]


def test_a_script_has_to_succeed():
    with pytest.raises(StepError, match="mn: no such thing"):
        lab(PlayedExec([("stderr", b"no such thing\n")], code=1)).shell("mn", "false")


@pytest.mark.parametrize(
    ("session", "message"),
    [
        (PlayedExec(code=124), "took longer than"),
        (NotFoundError("no such container"), "node mn of lab lab is not running"),
        (EngineError("it is on fire"), "on fire"),
    ],
)
def test_what_can_go_wrong(session, message):
    with pytest.raises(StepError, match=message):
        lab(session).execute("mn", ["true"])


def line(**fields):
    return ("stdout", json.dumps(fields).encode() + b"\n")


SOCKET = "UNIX-CONNECT:/run/testbed/home-agent.sock"


def test_an_answer_in_pieces():
    answer = json.dumps({"ok": True, "bindings": []}).encode() + b"\n"
    session = PlayedExec([("stdout", answer[:7]), ("stdout", answer[7:]), line(event="registered")])
    played = lab(session)
    assert played.control("ha", "home-agent", {"op": "x"}) == {"ok": True, "bindings": []}
    assert json.loads(session.sent[0]) == {"op": "x"} and session.closed.is_set()
    assert played.engine.commands == [("id-ha", ["socat", "-T", "5", "-", SOCKET])]


def test_the_state_is_asked_over_one_connection_until_the_daemon_is_restarted():
    first = PlayedExec([line(ok=True, number=1), line(ok=True, number=2)])
    second = PlayedExec([line(ok=True, number=3)])
    played = lab(first, second)
    assert [played.state("ha", "home-agent")["number"] for _ in range(3)] == [1, 2, 3]
    assert list(map(json.loads, first.sent[:2] + second.sent)) == [{"op": "state"}] * 3
    assert played.engine.commands == [("id-ha", ["socat", "-", SOCKET])] * 2
    assert first.closed.is_set() and not second.closed.is_set()
    played.stop()
    assert second.closed.is_set()


def test_a_daemon_that_hangs_is_asked_once(monkeypatch):
    def hang(session):
        yield line(ok=True)
        session.closed.wait(10)

    monkeypatch.setattr("testbed.lab.access.GRACE", 0.05)
    session = PlayedExec(talk=hang)
    played = lab(session)
    played.state("ha", "home-agent")
    with pytest.raises(
        StepError, match=r"home-agent of ha did not answer within 0\.\d+ s: it hangs, or this"
    ):
        played.state("ha", "home-agent", within=0.05)
    assert session.closed.is_set() and len(played.engine.commands) == 1


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ([line(ok=False, error="unknown op")], "home-agent of ha refuses x: unknown op"),
        ([("stderr", b"socat: Connection refused\n")], "does not answer: socat: Connection refused"),
        ([("stdout", b"rubbish\n")], "home-agent of ha sent no JSON: b'rubbish'"),
        ([], "does not answer: it hung up"),  # at once: that is no silence
    ],
)
def test_no_answer(pieces, message):
    with pytest.raises(StepError, match=message):
        lab(PlayedExec(pieces)).control("ha", "home-agent", {"op": "x"})


def test_being_stopped_ends_what_is_under_way():
    def talk(session):
        session.closed.wait(10)
        yield from ()

    played = lab(PlayedExec(talk=talk), PlayedExec())
    threading.Timer(0.1, played.stop).start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        played.execute("mn", ["sleep", "9"])
    with pytest.raises(Stopped):
        played.execute("mn", ["true"])
    assert time.monotonic() - began < 5


def test_what_begins_while_all_is_being_stopped_is_ended():
    session = PlayedExec()
    played = lab()
    played.engine.execute = lambda *_, **__: played.stop() or session
    with pytest.raises(Stopped), played.session("mn", ["sleep", "9"]):
        pass
    assert session.closed.is_set()


def test_waiting_for_nothing_ends_and_can_be_stopped():
    log = EventLog()
    began = time.monotonic()
    assert log.wait(0, lambda entry: True, 0.05) is None and time.monotonic() - began < 2
    threading.Timer(0.05, log.stop).start()
    with pytest.raises(Stopped):
        log.wait(0, lambda entry: True, 10)


def test_a_log_that_ends_is_known_to_have_ended():
    class Engine:
        def logs(self, container, **_):
            if container == "id-ha":
                return Ending()
            return Ending(threading.Event())

    class Ending:
        def __init__(self, until=None):
            self.until = until

        def __iter__(self):
            if self.until:
                self.until.wait(10)
            return iter(())

        def close(self):
            self.until and self.until.set()

    log = EventLog()
    log.follow(Engine(), {"ha": "id-ha", "mn": "id-mn"})
    deadline = time.monotonic() + 5
    while not log.ended and time.monotonic() < deadline:
        time.sleep(0.01)
    assert log.ended == {"ha"}
    log.stop()


# Captures


def tcpdump(*said, code=0, dies=False):
    def talk(session):
        for words in said:
            yield "stderr", words
        if not dies and session.ended.wait(5):
            yield "stderr", b"2 packets dropped by kernel\n"

    return PlayedExec(code=code, talk=talk)


def test_a_capture_runs_from_listening_to_stopped():
    capture = Capture(lab(tcpdump(b"tcpdump: listening ", b"on internet\n")), "gw", "internet")
    capture.start()
    capture.wait()
    assert capture.alive
    capture.stop()
    assert capture.alive and capture.dropped == 2


@pytest.mark.parametrize(("code", "dies"), [(137, False), (1, True), (0, True)])
def test_a_capture_that_dies_is_not_alive(code, dies):
    capture = Capture(lab(tcpdump(b"listening on x\n", code=code, dies=dies)), "gw", "internet")
    capture.start()
    if dies:  # which is known at once: an expectation among the steps is judged while others still capture
        assert capture._tcpdump.wait_for_end(5) and not capture.alive
    else:
        capture.wait()
    capture.stop()
    assert not capture.alive


def test_the_command_of_a_capture_ends_with_its_tcpdump(tmp_path):
    """Nobody has told it to: its input is still open."""
    tcpdump = tmp_path / "tcpdump"
    tcpdump.write_text("#!/bin/sh\necho the interface disappeared >&2\nexit 1\n")
    tcpdump.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    command = ["sh", "-c", SCRIPT, "sh", str(tmp_path / "x.pcap"), "", "", "-i", "x"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env={"PATH": path}
    ) as process:
        assert process.wait(10) == 1


def test_a_capture_that_does_not_start():
    capture = Capture(
        lab(PlayedExec([("stderr", b"tcpdump: internet: No such device exists\n")])), "gw", "internet"
    )
    capture.start()
    with pytest.raises(StepError, match="gw/internet: internet: No such device"):
        capture.wait()


def test_one_capture_for_all_links_of_a_mobile_node():
    captures = Captures(lab(), ["mn/hotel", "gw/internet", "mn/airport", "gw/backbone", "mn/hotel"])
    assert captures.taps == ("mn/hotel", "gw/internet", "mn/airport", "gw/backbone")
    assert {key: one.network for key, one in captures._captures.items()} == {
        "mn": None,
        "gw/internet": "internet",
        "gw/backbone": "backbone",
    }


# Programs


def test_a_program_that_does_not_start_says_why():
    program = Program(
        lab(PlayedExec([("stderr", b"No module named testbed.node.probe\n")])), "mn", ["python3"] * 4
    )
    with pytest.raises(StepError, match="No module named"):
        program.start("ready", 1)


def test_a_program_is_told_and_heard():
    def talk(session):
        yield line(event="ready")
        while not session.sent:
            time.sleep(0.01)
        yield line(event="closed", reason="stopped")

    program = Program(lab(PlayedExec(talk=talk)), "mn", ["python3"] * 4)
    program.start("ready", 5)
    program.stop()
    assert program.all("closed")[0]["reason"] == "stopped"
    assert program.wait("never", 0.01) is None
