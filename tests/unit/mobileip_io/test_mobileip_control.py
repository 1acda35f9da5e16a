import json
import os
import signal
import socket
import threading
import time
from contextlib import suppress

import pytest

from testbed.mobileip.io.control import ControlServer, RequestError
from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.io.journal import Journal
from testbed.mobileip.io.loop import Loop

LATER: list = []


def handle(request, connection):
    if request["op"] == "later":
        LATER.append(connection)
        return None
    if request["op"] != "echo":
        raise RequestError("only echo")
    return {"said": request["word"]}


@pytest.fixture
def served(tmp_path):
    """A server in a loop of its own; gives the path, the journal and what stdout would have got."""
    reader, writer = os.pipe()
    loop, journal = Loop(), Journal("test", writer)
    path = tmp_path / "run" / "control.sock"
    server = ControlServer(path, loop, journal, handle)
    news: list[str] = []

    def after():
        while news:
            journal.tell(news.pop(0), {"number": 1, "source": "never"})

    thread = threading.Thread(target=loop.run, args=(lambda: time.monotonic() + 0.01, after))
    thread.start()
    yield path, news, reader
    loop._stop(signal.SIGTERM, None)
    thread.join(5)
    server.close()
    assert not path.exists()
    for end in (reader, writer):
        os.close(end)


def connect(path):
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    connection.connect(str(path))
    return connection, connection.makefile()


def test_one_reply_to_each_line(served):
    connection, lines = connect(served[0])
    with connection:
        connection.sendall(b'{"op": "echo", "word": "a", "id": 1}\n{"op": "echo",')
        assert json.loads(lines.readline()) == {"ok": True, "id": 1, "said": "a"}
        connection.sendall(b' "word": "b"}\n\n[]\n{"op": "x"}\n{\n')
        assert json.loads(lines.readline()) == {"ok": True, "said": "b"}
        for error in ('expected {"op"', "only echo", "not JSON"):
            reply = json.loads(lines.readline())
            assert (reply["ok"], reply["error"].split(":")[0]) == (False, error)


def test_an_answer_may_come_later_and_what_follows_waits(tmp_path):
    loop, path = Loop(), tmp_path / "control.sock"
    server = ControlServer(path, loop, Journal("test"), handle)

    def turn(times=4):
        for _ in range(times):
            for descriptor, _ in loop._epoll.poll(0.05):
                loop._callbacks[descriptor]()

    connection, lines = connect(path)
    with connection:
        connection.sendall(b'{"op": "later", "id": 7}\n{"op": "later"}\n{"op": "echo", "word": "c"}\n')
        connection.shutdown(socket.SHUT_WR)
        turn()
        (asked,) = LATER
        asked.hold()
        asked.answer({"first": 1})
        asked.refuse(RequestError("no"))
        turn()
        assert [json.loads(lines.readline()) for _ in range(3)] == [
            {"ok": True, "id": 7, "first": 1},
            {"ok": False, "error": "no"},
            {"ok": True, "said": "c"},
        ]
        asked.send(b"an event that was owed\n")
        asked.release()
        assert lines.readlines() == ["an event that was owed\n"]
    server.close()


def test_events_for_subscribers_and_stdout(served):
    path, news, stdout = served
    connection, lines = connect(path)
    with connection:
        connection.sendall(b'{"op": "subscribe"}\n')
        assert json.loads(lines.readline()) == {"ok": True}
        news.append("moved")
        event = json.loads(lines.readline())
    assert (event["event"], event["source"], event["number"]) == ("moved", "test", 1)
    assert abs(event["monotonic"] - time.monotonic()) < 5
    assert json.loads(os.read(stdout, 1000)) == event


def test_who_does_not_read_is_cut_off(served):
    path, news, stdout = served
    threading.Thread(target=lambda: all(iter(lambda: os.read(stdout, 65536), b"")), daemon=True).start()
    slow, _ = connect(path)
    with slow:
        slow.sendall(b'{"op": "subscribe"}\n')
        until = time.monotonic() + 10
        news += ["x" * 1000] * 1000
        while news and time.monotonic() < until:
            time.sleep(0.01)
        assert not news
    other, lines = connect(path)
    with other:
        other.sendall(b'{"op": "echo", "word": "still here"}\n')
        assert json.loads(lines.readline())["ok"]


def test_an_endless_line_is_cut_off(served):
    connection, lines = connect(served[0])
    with connection:
        try:
            connection.sendall(b"x" * 200_000)
        except OSError:
            return
        with suppress(ConnectionResetError):
            assert lines.readline() == ""


def test_a_leftover_socket_is_replaced_and_an_impossible_one_refused(tmp_path):
    leftover = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(leftover))
    loop = Loop()
    ControlServer(leftover, loop, Journal("test"), handle).close()
    with pytest.raises(NodeError, match="control socket"):
        ControlServer(tmp_path / ("x" * 200), loop, Journal("test"), handle)
