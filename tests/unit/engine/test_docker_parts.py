"""The parts of the Docker implementation that need no engine: errors, log frames, where to connect."""

import http.client
import io
import struct

import pytest
import requests
from docker.errors import APIError

from testbed.engine.api import EngineError, InUseError, NameTakenError, NotFoundError, SubnetOverlapError
from testbed.engine.connect import connect
from testbed.engine.docker import DockerEngine
from testbed.engine.streams import DockerLog
from testbed.engine.translate import errors, raise_for_status


def answer(status, message):
    response = requests.Response()
    response.status_code = status
    response._content = b'{"message": "%s"}' % message.encode()
    return response


@pytest.mark.parametrize(
    ("status", "words", "expected"),
    [
        (404, "No such container: x", NotFoundError),
        (404, "No such image: x:1", NotFoundError),
        (403, "Pool overlaps with other one on this address space", SubnetOverlapError),
        (
            403,
            "cannot create network: conflicts with network y: networks have overlapping IPv4",
            SubnetOverlapError,
        ),
        (403, "error while removing network: network x id y has active endpoints", InUseError),
        (409, "network with name x already exists", NameTakenError),
        (409, "Conflict. The container name is already in use by container", NameTakenError),
        (409, "Container x is not running", EngineError),
        (500, "driver failed", EngineError),
        (500, "Address already in use", EngineError),
        # Podman's
        (500, "subnet 198.18.5.0/30 is already used on the host or by another config", SubnetOverlapError),
        (409, "network name x already used: network already exists", NameTakenError),
        (500, "the container name x is already in use by c9d6: that name is already in use", NameTakenError),
        (500, "unable to find network with name or ID x: network not found", NotFoundError),
        (500, "x has associated containers with it: network is being used", InUseError),
    ],
)
def test_the_engines_words_decide_the_class(status, words, expected):
    with pytest.raises(EngineError) as caught, errors("do it"):
        raise_for_status(answer(status, words))
    assert type(caught.value) is expected
    assert caught.value.message == f"cannot do it: {words}" and caught.value.exit_code == 3


def test_a_silent_engine_is_an_engine_error():
    with pytest.raises(EngineError, match="does not answer"), errors("list"):
        raise requests.ConnectionError("reset")
    with pytest.raises(EngineError), errors("list"):
        raise APIError("odd")


def test_no_engine_at_all(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(EngineError, match=r"no container engine answers at unix://.*none\.sock") as caught:
        connect()
    assert caught.value.hint == "DOCKER_HOST says so; unset it to use the engine of this machine"


def test_an_engine_that_cannot_be_meant(monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "nowhere")
    with pytest.raises(EngineError, match="no container engine answers at nowhere") as caught:
        connect()
    assert caught.value.hint.startswith("DOCKER_HOST says so (Invalid bind address")


class Socket:
    """As much of a socket as http.client reads an answer from."""

    def __init__(self, data):
        self.data = data

    def makefile(self, *_):
        return io.BufferedReader(io.BytesIO(self.data))


def log(*frames):
    body = b"".join(struct.pack(">BxxxL", stream, len(data)) + data for stream, data in frames)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    # Chunks that keep no frame whole: 7 bytes each.
    pieces = [body[at : at + 7] for at in range(0, len(body), 7)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    answer = http.client.HTTPResponse(Socket(head + chunks))
    answer.begin()
    response = requests.Response()
    response.raw = type(
        "Raw", (), {"_fp": answer, "close": lambda self: None, "release_conn": lambda self: None}
    )()
    return DockerLog(response)


def test_log_lines_are_put_together_per_stream():
    stamp = b"2026-01-02T03:04:05.123456789Z "
    lines = list(
        log(
            (1, stamp + b"begun "),
            (2, stamp + b"error\n"),
            (1, b"2026-01-02T03:04:06Z ended\n"),
            (1, stamp + b"\xff\n"),
            (1, stamp + b"no newline"),
        )
    )
    assert [(line.stream, line.text) for line in lines] == [
        ("stderr", "error"),
        ("stdout", "begun ended"),
        ("stdout", "\ufffd"),
        ("stdout", "no newline"),
    ]
    assert {line.time for line in lines} == {1767323045.123456}


class Late:
    """An engine's client that sees the end of what it killed too late."""

    def __init__(self, *answers):
        self.answers, self.calls = list(answers), []

    def remove_container(self, id, *, v, force):
        self.calls.append("remove")
        if self.answers and (words := self.answers.pop(0)):
            raise_for_status(answer(500, words))

    def wait(self, id, *, timeout, condition):
        self.calls.append(f"wait until {condition}")


_NO_EVENT = "cannot remove container: tried to kill container, but did not receive an exit event"


def test_a_container_that_ends_late_is_removed():
    client = Late(_NO_EVENT)
    DockerEngine(client, "unix:///x").remove_container("abc")
    assert client.calls == ["remove", "wait until not-running", "remove"]


def test_a_container_that_does_not_end_is_an_error():
    with pytest.raises(EngineError, match="did not receive an exit event"):
        DockerEngine(Late(_NO_EVENT, _NO_EVENT), "unix:///x").remove_container("abc")
