"""The channel to a container: the program that runs in nodes, run here, and the engine that uses it."""

import subprocess
import sys
import threading

import pytest

from testbed.engine.api import EngineError, NotFoundError
from testbed.engine.channel import COMMAND, ChannelEngine
from testbed.engine.fake import FakeEngine


class Piped:
    """`ExecSession` over a process of this machine."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __iter__(self):
        while data := self.process.stdout.read1(65536):
            yield "stdout", data

    def send(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def end_input(self):
        self.process.stdin.close()

    def close(self):
        self.process.wait(10)


class Engine(FakeEngine):
    """Starts the channel's program here, unless its container lacks it."""

    def __init__(self, lacks=False):
        super().__init__(command=lambda container, command, stdin: (b"by the engine", b"", 0))
        self.lacks = lacks
        self.started = []
        self.channels = []

    def execute(self, id, command, *, stdin=False, tty=False):
        self.started.append(tuple(command))
        if tuple(command) != COMMAND:
            return super().execute(id, command, stdin=stdin, tty=tty)
        if id == "gone":
            raise NotFoundError("no such container: gone")
        arguments = ["-m", "testbed.node.no_such_program"] if self.lacks else COMMAND[1:]
        self.channels.append(Piped([sys.executable, *arguments]))
        return self.channels[-1]

    def _box(self, id):
        return None


@pytest.fixture
def inner():
    return Engine()


@pytest.fixture
def engine(inner):
    through = ChannelEngine(inner)
    yield through
    through.close()


def run(engine, *command, stdin=None):
    with engine.execute("c1", command, stdin=stdin is not None) as session:
        if stdin is not None:
            session.send(stdin)
            session.end_input()
        pieces = list(session)
        return (
            b"".join(data for stream, data in pieces if stream == "stdout"),
            b"".join(data for stream, data in pieces if stream == "stderr"),
            session.exit_code(),
        )


def test_a_command_has_its_streams_and_its_exit_code(engine, inner):
    script = "cat; echo bad >&2; exit 7"
    assert run(engine, "sh", "-c", script, stdin=b"to and fro") == (b"to and fro", b"bad\n", 7)
    assert run(engine, "sh", "-c", script) == (b"", b"bad\n", 7)  # without input that ends at once
    assert run(engine, "sh", "-c", "kill -KILL $$") == (b"", b"", 128 + 9)
    assert run(engine, "sh", "-c", "yes | head -n 1") == (b"y\n", b"", 0)  # by SIGPIPE `yes` ends
    assert inner.started == [COMMAND]


@pytest.mark.parametrize(("word", "code"), [("no-such-command", 127), ("/etc", 126)])
def test_a_command_that_cannot_be_started(engine, word, code):
    out, err, ended = run(engine, word)
    assert (out, ended) == (b"", code) and err.startswith(word.encode() + b": ")


def test_much_goes_through_and_many_at_once(engine):
    data = bytes(range(256)) * 4096  # more than pipes hold
    results = {}

    def work(number):
        sent = data + str(number).encode()
        results[number] = run(engine, "cat", stdin=sent) == (sent, b"", 0)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == dict.fromkeys(range(8), True)


def test_output_comes_while_a_command_runs(engine):
    with engine.execute("c1", ["sh", "-c", "echo ready; cat; exit 3"], stdin=True) as session:
        pieces = iter(session)
        assert next(pieces) == ("stdout", b"ready\n")
        session.send(b"more")
        assert next(pieces) == ("stdout", b"more")
        session.end_input()
        assert list(pieces) == [] and session.exit_code() == 3
        session.send(b"too late")


def test_closing_ends_the_input_and_the_iteration(engine, tmp_path):
    end = tmp_path / "end"
    session = engine.execute("c1", ["sh", "-c", f"cat; mkfifo {end}.fifo; echo > {end}.fifo"], stdin=True)
    threading.Timer(0.05, session.close).start()
    assert list(session) == []
    with pytest.raises(EngineError, match="ended before sh did"):
        session.exit_code()
    run(engine, "sh", "-c", f"until [ -p {end}.fifo ]; do sleep 0.01; done; cat {end}.fifo")
    session.close()


def test_a_channel_that_dies_ends_its_commands_and_is_opened_again(engine, inner):
    session = engine.execute("c1", ["sleep", "60"])
    inner.channels[0].process.kill()
    assert list(session) == []
    with pytest.raises(EngineError):
        session.exit_code()
    assert run(engine, "echo", "again") == (b"again\n", b"", 0)
    assert inner.started == [COMMAND, COMMAND]


def test_an_image_without_the_program_gets_each_command_from_the_engine():
    inner = Engine(lacks=True)
    engine = ChannelEngine(inner)
    for _ in range(3):
        assert run(engine, "true") == (b"by the engine", b"", 0)
    assert inner.started == [COMMAND, *[("true",)] * 3]


def test_a_command_with_a_terminal_is_the_engines(engine, inner):
    with engine.execute("c1", ["sh"], tty=True) as session:
        assert list(session) == [("stdout", b"by the engine")]
    assert inner.started == [("sh",)]


def test_a_container_that_is_gone(engine):
    with pytest.raises(NotFoundError):
        engine.execute("gone", ["true"])


def test_removal_ends_the_channel(engine, inner):
    run(engine, "true")
    engine.remove_container("c1")
    assert inner.channels[0].process.poll() == 0 and inner.calls["remove_container"] == 1
