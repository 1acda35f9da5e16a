"""A home agent in several processes: their parent, and its answers for all of them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from testbed.mobileip.io import home_agent_toml
from testbed.mobileip.io.control import RequestError
from testbed.mobileip.io.errors import ConfigError
from testbed.mobileip.io.instance import Instance
from testbed.mobileip.io.shard_requests import ShardRequests, merged
from testbed.mobileip.io.steering import Steering

HOME = IPv4Address("10.99.0.10")
PROGRAM = """
import os, sys
from ipaddress import IPv4Address
from pathlib import Path
from testbed.mobileip.io.control import ControlLink
from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.io.journal import Journal
from testbed.mobileip.io.loop import Loop
from testbed.mobileip.io.shards import Shards
from testbed.mobileip.io.steering import Steering
from testbed.mobileip.io.udp import Place, share_out
from testbed.mobileip.tunnel.endpoint import EVERYTHING

folder, port = Path(sys.argv[1]), int(sys.argv[2])

def body(part):
    number, loop, journal = part.share.number, Loop(), Journal("agent", part.events)
    def answer(request, connection):
        return None if request["op"] == "hang" else {"by": number}
    def hear():
        for datagram in part.sockets[0].receive():
            journal.tell("heard", {"process": number})
    link = ControlLink(part.link, loop, answer, loop.stop)
    loop.add(part.sockets[0].socket.fileno(), hear)
    journal.tell("begins", {"process": number, "pid": os.getpid()})
    if (folder / "broken").exists():
        raise NodeError("the node lacks something")
    journal.tell("ready", {"backend": "tun"})
    loop.catch_signals()
    loop.run(lambda: None, lambda: None)
    journal.tell("ends", {"process": number})

steering = Steering(2)
sockets = share_out(Place(port, IPv4Address("127.0.0.1")), steering, EVERYTHING)
try:
    Shards(steering, [sockets], body, Journal("agent"), folder / "agent.sock").run()
except NodeError as error:
    sys.exit(str(error))
"""


class Parent:
    """The parent of two processes that report what they hear."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        arguments = [sys.executable, "-c", PROGRAM, str(folder), str(self.port)]
        self.program = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.events: list[dict] = []
        self.pids: dict[int, int] = {}

    def wait(self, event: str, **fields) -> dict:
        """The next event of that name and those fields."""
        assert self.program.stdout is not None
        while line := self.program.stdout.readline():
            self.events.append(json.loads(line))
            if self.events[-1]["event"] == "begins":
                self.pids[self.events[-1]["process"]] = self.events[-1]["pid"]
            if self.events[-1]["event"] == event and fields.items() <= self.events[-1].items():
                return self.events[-1]
        raise AssertionError(f"no {event} {fields} in {self.events}")

    def send(self, home_address: IPv4Address) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"\1\0\0\0" + home_address.packed, ("127.0.0.1", self.port))

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(10)
        connection.connect(str(self.folder / "agent.sock"))
        return connection

    def end(self) -> tuple[int, str]:
        _, errors = self.program.communicate(timeout=20)
        return self.program.returncode, errors.decode()


def reply(connection: socket.socket) -> dict:
    with connection.makefile() as lines:
        return json.loads(lines.readline())


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def parent(tmp_path):
    parent = Parent(tmp_path)
    yield parent
    if parent.program.poll() is None:
        parent.program.kill()
    parent.program.communicate()


def test_all_are_one_daemon(parent):
    ready = parent.wait("ready")
    assert (ready["processes"], ready["backend"], ready["source"]) == (2, "tun", "agent")
    assert [event["event"] for event in parent.events].count("ready") == 1
    for number in range(4):
        parent.send(HOME + number)
        parent.wait("heard", process=int(HOME + number) % 2)
    with parent.connect() as subscriber:
        subscriber.sendall(b'{"op": "subscribe"}\n')
        assert reply(subscriber) == {"ok": True}
        parent.send(HOME)
        assert reply(subscriber)["event"] == "heard"
        with parent.connect() as client:
            client.sendall(b'{"op": "binding", "home_address": "10.99.0.11", "id": 9}\n')
            assert reply(client) == {"ok": True, "id": 9, "by": 1}
    parent.program.terminate()
    assert parent.wait("ends", process=0) and parent.wait("ends", process=1)
    assert parent.end() == (0, "")
    assert not any(map(lives, parent.pids.values()))
    assert [each.name for each in parent.folder.iterdir()] == []


def test_a_process_that_is_killed_has_a_successor_that_misses_nothing(parent):
    parent.wait("ready")
    before = parent.pids[1]
    os.kill(before, signal.SIGSTOP)  # what comes now waits at the socket
    with parent.connect() as client:
        client.sendall(b'{"op": "hang", "home_address": "10.99.0.10"}\n')
        parent.send(HOME + 1)
        other = parent.connect()
        other.sendall(b'{"op": "binding", "home_address": "10.99.0.11"}\n')
        time.sleep(0.1)
        os.kill(before, signal.SIGKILL)
        assert reply(other) == {"ok": False, "error": "process 1 has ended (signal 9)"}
        other.sendall(b'{"op": "binding", "home_address": "10.99.0.11"}\n')
        assert reply(other) == {"ok": True, "by": 1}
        other.close()
    heard = [event["event"] for event in parent.events]
    assert parent.wait("process-restarted")["process"] == 1
    parent.wait("heard", process=1)
    assert parent.pids[1] != before and "heard" not in heard
    assert [event["event"] for event in parent.events].count("ready") == 1
    parent.program.terminate()
    code, errors = parent.end()
    assert (code, errors) == (0, "agent: process 1 has ended (signal 9): there is a new one\n")


def test_what_cannot_start_ends_all(parent):
    parent.wait("ready")
    (parent.folder / "broken").touch()
    os.kill(parent.pids[0], signal.SIGKILL)
    code, errors = parent.end()
    assert code == 1
    assert "agent: process 0: the node lacks something" in errors
    assert errors.endswith("process 0 has ended (exit code 3) before it was ready\n")
    assert not any(map(lives, parent.pids.values()))


def test_a_killed_parent_leaves_no_process(parent):
    parent.wait("ready")
    parent.program.kill()
    parent.end()  # when nobody has its stderr any more: then they end, but are not yet gone
    until = time.monotonic() + 10
    while any(map(lives, parent.pids.values())):
        assert time.monotonic() < until
        time.sleep(0.01)


# Its answers.


STATE = {
    "source": "home-agent",
    "monotonic": 1.0,
    "backend": "tun",
    "tunnel": {"decapsulated": 1, "refused": 0},
    "role": "home-agent",
    "address": "10.98.0.1",
    "mobile_nodes": 1,
    "bindings": [{"home_address": "10.99.0.10"}],
    "groups": {"239.0.0.1": ["10.99.0.10"]},
    "counters": {"requests-received": 2, "denied-133": 1},
}
OTHER = {
    **STATE,
    "monotonic": 2.0,
    "tunnel": {"decapsulated": 3, "refused": 4},
    "mobile_nodes": 2,
    "bindings": [{"home_address": "10.99.0.11"}, {"home_address": "10.99.0.13"}],
    "groups": {"224.0.0.9": ["10.99.0.11"], "239.0.0.1": ["10.99.0.11"]},
    "counters": {"requests-received": 5},
}


def test_the_state_of_all_is_that_of_one():
    assert merged([STATE, OTHER]) == {
        **STATE,
        "monotonic": 2.0,
        "tunnel": {"decapsulated": 4, "refused": 4},
        "mobile_nodes": 3,
        "bindings": [{"home_address": f"10.99.0.{number}"} for number in (10, 11, 13)],
        "groups": {"224.0.0.9": ["10.99.0.11"], "239.0.0.1": ["10.99.0.10", "10.99.0.11"]},
        "counters": {"denied-133": 1, "requests-received": 7},
        "processes": [{"mobile_nodes": 1, "requests": 2}, {"mobile_nodes": 2, "requests": 5}],
    }


def test_no_more_bindings_are_listed_than_of_one():
    many = {**STATE, "bindings": [{"home_address": "10.99.0.10"}] * 200}
    assert len(merged([many, many])["bindings"]) == 256


class Client:
    """A connection that keeps what it is answered."""

    def __init__(self) -> None:
        self.said: list = []

    def answer(self, fields) -> None:
        self.said.append(fields)

    def refuse(self, error) -> None:
        self.said.append(str(error))


@pytest.fixture
def asked():
    """Requests by their process, with what takes the reply."""
    return []


@pytest.fixture
def requests(asked):
    steering = Steering(2, (IPv4Network("10.99.7.0/24"),))
    return ShardRequests(steering, lambda number, request, answer: asked.append((number, request, answer)))


@pytest.mark.parametrize("op", ["binding", "revoke"])
def test_a_request_about_a_mobile_node_is_for_its_process(requests, asked, op):
    for home, number in (("10.99.0.10", 0), ("10.99.0.11", 1), ("10.99.7.11", 0)):
        requests.handle({"op": op, "home_address": home, "id": 3}, Client())
        assert asked.pop()[:2] == (number, {"op": op, "home_address": home})
    for wrong, message in (({}, "must be a string"), ({"home_address": "x"}, "4 octets")):
        with pytest.raises(RequestError, match=message):
            requests.handle({"op": op, **wrong}, Client())
    assert not asked


def test_the_first_process_says_what_is_wrong_with_other_requests(requests, asked):
    client = Client()
    requests.handle({"op": "nonsense"}, client)
    ((number, request, answer),) = asked
    assert (number, request) == (0, {"op": "nonsense"})
    answer({"ok": False, "error": "unknown op"})
    assert client.said == ["unknown op"]


def test_an_answer_of_all_waits_for_all(requests, asked):
    client = Client()
    requests.handle({"op": "state"}, client)
    assert [(number, request) for number, request, _ in asked] == [(0, {"op": "state"}), (1, {"op": "state"})]
    asked[1][2]({"ok": True, **OTHER})
    assert not client.said
    asked[0][2]({"ok": True, **STATE})
    assert client.said[0]["bindings"] == STATE["bindings"] + OTHER["bindings"]
    requests.handle({"op": "flush"}, client)
    asked[2][2]({"ok": False, "error": "process 0 has ended"})
    asked[3][2]({"ok": True})
    assert client.said[1:] == ["process 0 has ended"]


# Its configuration.


def read(tmp_path: Path, text: str):
    file = tmp_path / "home-agent.toml"
    file.write_text(f'address = "10.98.0.1"\n{text}\n[home]\nprefix = "10.99.0.0/16"\n')
    return home_agent_toml.read(file)


def test_processes_in_a_file(tmp_path):
    assert read(tmp_path, "").processes == 1
    assert read(tmp_path, "processes = 26").processes == 26
    for wrong in ("processes = 0", "processes = 27"):
        with pytest.raises(ConfigError, match=r"home-agent.toml:2: .*expected 1 to 26"):
            read(tmp_path, wrong)
    assert read(tmp_path, 'device = "ninechars"').processes == 1
    with pytest.raises(ConfigError, match=r"home-agent.toml:3: device.* expected up to 8 letters"):
        read(tmp_path, 'processes = 2\ndevice = "ninechars"')


def test_each_process_has_devices_of_its_own():
    whole = Instance("home-agent", "mip", 143)
    parts = [whole.part(number) for number in range(26)]
    assert [part.devices for part in parts[:2]] == ["mipa", "mipb"]
    assert {part.protocol for part in parts} == {143} and {part.name for part in parts} == {"home-agent"}
    assert len({part.devices_claim for part in [whole, *parts]}) == 27
    assert whole.devices_claim[0] in whole.claims
