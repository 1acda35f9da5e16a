r"""Home agent, foreign agent and mobile node as processes in network namespaces: real packets, no engine.

    core ------ ha ---+--- cn
   /    \             | home
hotel    fa           |
   \      \ hotspot   |
    +------ mn -------+
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None or not Path("/dev/net/tun").exists(),
    reason="NOT RUN: needs root, iproute2 and /dev/net/tun",
)

PREFIX = f"mipio-{os.getpid():x}-"
KEY = "00112233445566778899aabbccddeeff"
HOME_ADDRESS, HOME_AGENT, CN = "192.0.2.100", "203.0.113.2", "192.0.2.10"
FA, CARE_OF_FA, CARE_OF_HOTEL = "198.51.100.1", "203.0.113.6", "198.51.100.70"
LINKS = [
    ("core", "ha0", "203.0.113.1/30", "ha", "net", "203.0.113.2/30"),
    ("core", "fa0", "203.0.113.5/30", "fa", "net", "203.0.113.6/30"),
    ("core", "hotel", "198.51.100.65/26", "mn", "hotel", None),
    ("fa", "hotspot", "198.51.100.1/26", "mn", "hotspot", None),
    ("switch", "p1", None, "ha", "home", "192.0.2.1/24"),
    ("switch", "p2", None, "cn", "home", "192.0.2.10/24"),
    ("switch", "p3", None, "mn", "home", None),
]
ROUTES = {
    "core": ["192.0.2.0/24 via 203.0.113.2"],
    "ha": ["default via 203.0.113.1"],
    "fa": ["default via 203.0.113.5"],
    "cn": ["default via 192.0.2.1"],
}
CONFIG = {
    "home-agent": f"""
        address = "{HOME_AGENT}"
        [home]
        interface = "home"
        prefix = "192.0.2.0/24"
        [[security]]
        mobile-node = "{HOME_ADDRESS}"
        spi = 256
        key = "{KEY}"
        """,
    "foreign-agent": f"""
        interface = "hotspot"
        address = "{FA}"
        care-of = "{CARE_OF_FA}"
        """,
    "mobile-node": f"""
        home-address = "{HOME_ADDRESS}"
        home-prefix = "192.0.2.0/24"
        home-agent = "{HOME_AGENT}"
        reverse-tunnel = true
        mip-rule-preference = 230
        [security]
        spi = 256
        key = "{KEY}"
        """,
}
PLACES = {"home-agent": "ha", "foreign-agent": "fa", "mobile-node": "mn"}
PING = textwrap.dedent("""
    import os, select, socket, struct, sys, time
    source, destination, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    if source != "-":
        s.bind((source, 0))
    until, number = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        head = struct.pack("!HH", os.getpid() & 0xffff, number)
        total = sum(struct.unpack("!4H", b"\\x08\\0\\0\\0" + head))
        try:
            s.sendto(b"\\x08\\0" + (-total % 0xffff).to_bytes(2, "big") + head, (destination, 0))
        except OSError:
            pass
        again = time.monotonic() + 0.1
        while (left := again - time.monotonic()) > 0 and select.select([s], [], [], left)[0]:
            answer, peer = s.recvfrom(2048)
            if answer[20] == 0 and answer[24:26] == head[:2] and peer[0] == destination:
                sys.exit(0)
        number += 1
    sys.exit(1)
    """)

RECEIVE = textwrap.dedent("""
    import socket
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("", 9))
    s.settimeout(20)
    print("ready", flush=True)
    print(len(s.recv(2000)))
    """)
SEND = textwrap.dedent(f"""
    import socket, sys, time
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IP, 10, int(sys.argv[1]))  # IP_MTU_DISCOVER
    s.bind(("{HOME_ADDRESS}", 0))
    for _ in range(5):
        s.sendto(bytes(1452), ("{CN}", 9))
        time.sleep(0.2)
    """)


def run(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert not check or done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


class Daemon:
    """One of the three daemons, its events and its control socket."""

    def __init__(self, role: str, folder: Path) -> None:
        self.role = role
        self.folder = folder
        self.events: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self.socket = folder / f"{role}.sock"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "testbed.mobileip", self.role]
        command += ["--config", str(self.folder / f"{self.role}.toml"), "--control", str(self.socket)]
        started, before = time.monotonic(), len(self.events)
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", PREFIX + PLACES[self.role], *command],
            stdout=subprocess.PIPE,
            stderr=(self.folder / f"{self.role}.log").open("ab"),
        )
        threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True).start()
        self.wait("ready", after=before)
        self.start_took = time.monotonic() - started

    def _read(self, stream: Any) -> None:
        for line in stream:
            with self._news:
                self.events.append(json.loads(line))
                self._news.notify_all()

    def wait(self, event: str, timeout: float = 5.0, after: int = 0, **fields: Any) -> dict[str, Any]:
        """The first event of that name and those fields, of those from number `after` on."""

        def found() -> dict[str, Any] | None:
            matching = (e for e in self.events[after:] if e["event"] == event)
            return next((e for e in matching if fields.items() <= e.items()), None)

        with self._news:
            assert self._news.wait_for(lambda: found() is not None, timeout), (
                f"{self.role}: no {event} {fields} in {self.events[after:]}; "
                + (self.folder / f"{self.role}.log").read_text()
            )
            result = found()
            assert result is not None
            return result

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.socket))
            connection.sendall(json.dumps({"op": op, **fields}).encode() + b"\n")
            reply: dict[str, Any] = json.loads(connection.makefile().readline())
        return reply

    def do(self, op: str, **fields: Any) -> int:
        """Give a command; returns the number of events before it."""
        before = len(self.events)
        reply = self.ask(op, **fields)
        assert reply["ok"], reply
        return before

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(10)


class World:
    """The namespaces, links and daemons."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: dict[str, Daemon] = {}
        self.captures: list[tuple[subprocess.Popen[bytes], Path]] = []
        for role, text in CONFIG.items():
            self.configure(role, text)

    def configure(self, role: str, text: str) -> None:
        (self.folder / f"{role}.toml").write_text(textwrap.dedent(text))

    def build(self) -> None:
        for name in ("core", "ha", "fa", "cn", "mn", "switch"):
            run("ip", "netns", "add", PREFIX + name)
            run("ip", "-n", PREFIX + name, "link", "set", "lo", "up")
            forward = int(name in ("core", "ha", "fa"))
            settings = [
                "all.rp_filter=0",
                "default.rp_filter=0",
                "all.send_redirects=0",
                f"all.forwarding={forward}",
            ]
            settings += ["all.arp_ignore=1", "all.arp_announce=2"] if name == "mn" else []
            sysctls = [f"net.ipv4.conf.{setting}" for setting in settings]
            run("ip", "netns", "exec", PREFIX + name, "sysctl", "-qw", *sysctls)
        run("ip", "-n", PREFIX + "switch", "link", "add", "name", "lan", "type", "bridge")
        run("ip", "-n", PREFIX + "switch", "link", "set", "lan", "up")
        for one, device, address, other, peer, peer_address in LINKS:
            pair = ("name", device, "netns", PREFIX + one, "type", "veth", "peer", "name", peer)
            run("ip", "link", "add", *pair, "netns", PREFIX + other)
            for node, name, mine in ((one, device, address), (other, peer, peer_address)):
                if mine:
                    self.ip(node, "addr", "add", mine, "dev", name)
                if node == "switch":
                    self.ip(node, "link", "set", name, "master", "lan")
                if node != "mn":
                    self.ip(node, "link", "set", name, "up")
        for node, routes in ROUTES.items():
            for route in routes:
                self.ip(node, "route", "add", *route.split())

    def ip(self, node: str, *arguments: str) -> str:
        return run("ip", "-n", PREFIX + node, *arguments)

    def start(self, *roles: str) -> list[Daemon]:
        for role in roles:
            self.daemons[role] = Daemon(role, self.folder)
        return [self.daemons[role] for role in roles]

    def to_hotel(self) -> None:
        """What a connection manager does: link, address, and the routes of the care-of address."""
        self.only_up("hotel")
        self.ip("mn", "addr", "replace", f"{CARE_OF_HOTEL}/26", "dev", "hotel")
        self.ip("mn", "route", "replace", "default", "via", "198.51.100.65", "dev", "hotel", "table", "100")
        if "lookup 100" not in self.ip("mn", "rule"):
            self.ip("mn", "rule", "add", "pref", "50", "from", CARE_OF_HOTEL, "lookup", "100")

    def only_up(self, link: str) -> None:
        for other in {"hotel", "hotspot", "home"} - {link}:
            self.ip("mn", "link", "set", other, "down")
        self.ip("mn", "link", "set", link, "up")

    def ping(self, node: str, destination: str, source: str = "-", seconds: float = 2.0) -> bool:
        inside = ["ip", "netns", "exec", PREFIX + node, sys.executable, "-S", "-c", PING]
        return subprocess.run([*inside, source, destination, str(seconds)], timeout=30).returncode == 0

    def both_ways(self) -> bool:
        """From the home address to the correspondent, and back."""
        return self.ping("mn", CN) and self.ping("mn", CN, HOME_ADDRESS) and self.ping("cn", HOME_ADDRESS)

    def capture(self, node: str, interface: str) -> Path:
        file = self.folder / f"{node}-{interface}.pcap"
        command = [
            "ip",
            "netns",
            "exec",
            PREFIX + node,
            "tcpdump",
            "--immediate-mode",
            "-U",
            "-Z",
            "root",
            "-ni",
            interface,
            "-w",
        ]
        process = subprocess.Popen([*command, str(file)], stderr=subprocess.PIPE)
        assert process.stderr is not None
        while b"listening" not in (line := process.stderr.readline()):
            assert line, "tcpdump has ended"
        self.captures.append((process, file))
        return file

    def end_captures(self) -> None:
        time.sleep(0.2)
        for process, _ in self.captures:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=10)
        self.captures.clear()

    def destroy(self) -> None:
        for process, _ in self.captures:
            process.kill()
            process.wait()
        for daemon in self.daemons.values():
            if daemon.process.poll() is None:
                daemon.process.kill()
                daemon.process.wait()
        for name in run("ip", "netns", "list").split():
            if name.startswith(PREFIX):
                run("ip", "netns", "del", name, check=False)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    try:
        made.build()
        yield made
    finally:
        made.destroy()


def decode(file: Path, display: str) -> list[str]:
    if shutil.which("tshark") is None:
        pytest.skip("NOT RUN: needs tshark")
    return run("tshark", "-r", str(file), "-Y", display).splitlines()


def test_co_located(world: World) -> None:
    ha, mn = world.start("home-agent", "mobile-node")
    assert not world.ping("mn", CN, seconds=0.3)
    capture = world.capture("ha", "net")
    world.to_hotel()
    before = mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL)
    registered = mn.wait("registered", after=before)
    assert registered["mode"] == "co-located"
    assert registered["care_of"] == CARE_OF_HOTEL
    assert world.both_ways()
    binding = ha.ask("state")["bindings"][0]
    assert binding["care_of_addresses"] == [CARE_OF_HOTEL]
    state = mn.ask("state")
    assert state["state"] == "registered"
    assert state["tunnel"]["encapsulated"] > 0
    assert state["tunnel"]["decapsulated"] > 0
    assert "dev mip0" in world.ip("mn", "route", "show", "table", "434")
    assert "230:\tfrom all lookup 434" in world.ip("mn", "rule")
    world.end_captures()
    assert decode(capture, "mip")
    assert decode(capture, "ip.proto == 4")
    assert decode(capture, "_ws.malformed") == []


def test_no_error_answers_what_is_tunnelled(world: World) -> None:
    _, mn = world.start("home-agent", "mobile-node")
    world.to_hotel()
    mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    assert world.both_ways()
    for node in ("ha", "mn"):
        names, values = (
            line.split()
            for line in run("ip", "netns", "exec", PREFIX + node, "cat", "/proc/net/snmp").splitlines()
            if line.startswith("Icmp:")
        )
        assert values[names.index("OutDestUnreachs")] == "0"


def test_through_a_foreign_agent(world: World) -> None:
    _, fa, mn = world.start("home-agent", "foreign-agent", "mobile-node")
    world.only_up("hotspot")
    captures = [world.capture("fa", "net"), world.capture("mn", "hotspot")]
    # A stranger on the link, and this mobile node before it is registered, are forwarded for by nobody.
    world.ip("mn", "addr", "add", "198.51.100.9/26", "dev", "hotspot")
    world.ip("mn", "route", "add", "default", "via", FA, "dev", "hotspot")
    assert world.ping("mn", FA, "198.51.100.9")
    assert not world.ping("mn", CN, "198.51.100.9", seconds=0.5)
    assert not world.ping("mn", CN, HOME_ADDRESS, seconds=0.5)
    world.ip("mn", "addr", "del", "198.51.100.9/26", "dev", "hotspot")

    before = mn.do("discover", interface="hotspot")
    registered = mn.wait("registered", after=before)
    assert (registered["mode"], registered["care_of"], registered["agent"]) == (
        "foreign-agent",
        CARE_OF_FA,
        FA,
    )
    assert world.both_ways()
    state = fa.ask("state")
    assert [visitor["home_address"] for visitor in state["visitors"]] == [HOME_ADDRESS]
    assert state["tunnel"]["encapsulated"] > 0
    assert state["tunnel"]["decapsulated"] > 0
    neighbours = world.ip("fa", "neigh", "show", HOME_ADDRESS)
    assert "PERMANENT" in neighbours
    assert state["visitors"][0]["link_address"] in neighbours

    before = mn.do("deregister")
    mn.wait("deregistered", after=before)
    assert not world.ping("mn", CN, HOME_ADDRESS, seconds=0.5)
    assert world.ip("fa", "neigh", "show", HOME_ADDRESS) == ""
    assert "from 192.0.2.100" not in world.ip("fa", "rule")
    world.end_captures()
    for capture in captures:
        assert decode(capture, "mip")
        assert decode(capture, "_ws.malformed") == []
    assert decode(captures[1], "icmp.type == 9")
    arp_by_mn = "arp && eth.dst == ff:ff:ff:ff:ff:ff && arp.src.proto_ipv4 == 192.0.2.100"
    assert decode(captures[1], arp_by_mn) == []  # RFC 5944 §4.6: never while away from home


def test_without_reverse_tunnel_packets_go_the_short_way(world: World) -> None:
    world.configure("mobile-node", CONFIG["mobile-node"].replace("reverse-tunnel = true", ""))
    _, fa, mn = world.start("home-agent", "foreign-agent", "mobile-node")
    world.to_hotel()
    mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    assert world.both_ways()
    counters = mn.ask("state")["tunnel"]
    assert counters["encapsulated"] == 0
    assert counters["decapsulated"] > 0
    world.only_up("hotspot")
    mn.wait("registered", after=mn.do("discover", interface="hotspot"))
    assert world.both_ways()
    counters = fa.ask("state")["tunnel"]
    assert counters["encapsulated"] == 0
    assert counters["decapsulated"] > 0


def test_the_tunnel_fits_the_path(world: World) -> None:
    _, mn = world.start("home-agent", "mobile-node")
    world.to_hotel()
    mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    assert "mtu 1480" in world.ip("mn", "link", "show", "mip0")
    world.ip("mn", "link", "set", "hotel", "mtu", "1400")  # as a device of userspace IPsec has
    mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    assert "mtu 1380" in world.ip("mn", "link", "show", "mip0")
    assert world.both_ways()
    # A way narrower than the device knows: what may be fragmented gets through, the rest is refused.
    world.ip("mn", "link", "set", "mip0", "mtu", "1480")
    inside = ["ip", "netns", "exec", PREFIX + "cn", sys.executable, "-S", "-c", RECEIVE]
    receiver = subprocess.Popen(inside, stdout=subprocess.PIPE, text=True)
    assert receiver.stdout is not None
    assert receiver.stdout.readline() == "ready\n"
    inside = ["ip", "netns", "exec", PREFIX + "mn", sys.executable, "-S", "-c", SEND]
    refused = subprocess.run([*inside, "2"], capture_output=True, text=True, timeout=30)  # Don't Fragment
    assert "Message too long" in refused.stderr
    run(*inside, "0")
    assert receiver.communicate(timeout=30)[0] == "1452\n"


def test_a_silent_home_agent_is_told_by_the_foreign_agent(world: World) -> None:
    _, mn = world.start("foreign-agent", "mobile-node")
    world.only_up("hotspot")
    before = mn.do("discover", interface="hotspot")
    mn.wait("reply", after=before, code=82)  # home agent port unreachable
    world.ip("core", "route", "add", "unreachable", f"{HOME_AGENT}/32")
    before = len(mn.events)
    mn.wait("reply", after=before, code=81)  # home agent host unreachable
    world.ip("fa", "route", "del", "default")
    before = len(mn.events)
    mn.wait("reply", after=before, code=80, timeout=8)  # home network unreachable


def test_a_walk_home_keeps_a_connection(world: World) -> None:
    ha, _, mn = world.start("home-agent", "foreign-agent", "mobile-node")
    world.to_hotel()
    mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    server = (
        "import socket; s = socket.create_server(('', 7)); c, _ = s.accept()\n"
        "while data := c.recv(100): c.sendall(data)"
    )
    client = (
        f"import socket, sys; s = socket.create_connection(('{CN}', 7), 5); print('up', flush=True)\n"
        "for line in sys.stdin: s.sendall(line.encode()); print(s.recv(100).decode(), end='', flush=True)"
    )
    echo = subprocess.Popen(["ip", "netns", "exec", PREFIX + "cn", sys.executable, "-c", server])
    inside = ["ip", "netns", "exec", PREFIX + "mn", sys.executable, "-c", client]
    session: subprocess.Popen[str] | None = None
    try:
        time.sleep(0.3)
        session = subprocess.Popen(inside, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert session.stdin is not None
        assert session.stdout is not None
        assert session.stdout.readline() == "up\n"

        def says(word: str) -> bool:
            session.stdin.write(word + "\n")  # type: ignore[union-attr]
            session.stdin.flush()  # type: ignore[union-attr]
            return session.stdout.readline() == word + "\n"  # type: ignore[union-attr]

        assert says("hotel")
        assert world.ping("cn", HOME_ADDRESS)  # so that cn has its link address: the home agent's
        world.only_up("home")
        before = mn.do("discover", interface="home")
        mn.wait("at-home", after=before)
        mn.wait("deregistered", after=before)
        assert says("home")
        assert world.ping("cn", HOME_ADDRESS, seconds=0.5)
        assert ha.ask("state")["bindings"] == []
        assert "192.0.2.100/24" in world.ip("mn", "addr", "show", "dev", "home")
        assert "192.0.2.100/32" not in world.ip("mn", "addr")
        assert "lookup 434" not in world.ip("mn", "rule")
        assert world.ip("ha", "neigh", "show", "proxy") == ""
        assert says("still")

        world.only_up("hotspot")
        before = mn.do("discover", interface="hotspot")
        mn.wait("registered", after=before)
        assert says("hotspot")
        assert world.both_ways()

        world.to_hotel()
        mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
        assert says("back")
    finally:
        for process in (echo, session):
            if process is not None:
                process.kill()
                process.communicate()


@pytest.mark.parametrize("role", ["home-agent", "foreign-agent", "mobile-node"])
def test_a_killed_daemon_recovers(world: World, role: str) -> None:
    _, _, mn = world.start("home-agent", "foreign-agent", "mobile-node")
    killed = world.daemons[role]
    world.only_up("hotspot")
    mn.wait("registered", after=mn.do("discover", interface="hotspot"))
    assert world.both_ways()
    killed.stop(signal.SIGKILL)
    killed.start()
    mn.do("detach")
    mn.wait("registered", after=mn.do("discover", interface="hotspot"))
    assert world.both_ways()


@pytest.mark.parametrize("role", ["home-agent", "foreign-agent", "mobile-node"])
def test_nothing_is_left_behind(world: World, role: str) -> None:
    node = PLACES[role]

    def picture() -> list[str]:
        parts = [
            ("rule",),
            ("route", "show", "table", "all"),
            ("neigh", "show", "nud", "permanent"),  # the others are the kernel's own, and come and go
            ("neigh", "show", "proxy"),
            ("addr",),
        ]
        return [world.ip(node, "-4", "-o", *part) for part in parts]

    world.only_up("hotspot")
    before = picture()
    _, _, mn = world.start("home-agent", "foreign-agent", "mobile-node")
    mn.wait("registered", after=mn.do("discover", interface="hotspot"))
    daemon = world.daemons[role]
    assert daemon.stop() == 0
    assert picture() == before
    assert not daemon.socket.exists()

    for other in {"home-agent", "foreign-agent", "mobile-node"} - {role}:
        world.daemons[other].stop()
        world.daemons[other].start()
    daemon.start()
    mn.wait("registered", after=mn.do("discover", interface="hotspot"))
    daemon.stop(signal.SIGKILL)
    daemon.start()
    assert daemon.stop() == 0
    assert picture() == before


def test_a_mobile_node_killed_at_home_leaves_nothing(world: World) -> None:
    _, mn = world.start("home-agent", "mobile-node")
    world.only_up("home")
    mn.wait("at-home", after=mn.do("discover", interface="home"))
    mn.stop(signal.SIGKILL)
    assert "192.0.2.100/24" in world.ip("mn", "addr", "show", "dev", "home")
    mn.start()
    assert "192.0.2.100" not in world.ip("mn", "addr", "show", "dev", "home")
    anchor = "lo" if mn.ask("state")["backend"] == "kernel" else "mip0"
    assert "192.0.2.100/32" in world.ip("mn", "addr", "show", "dev", anchor)
    assert world.ip("mn", "route") == ""


def tunnel_process(daemon: Daemon) -> int:
    """The process behind the daemon's TUN device."""
    (child,) = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children").read_text().split()
    return int(child)


@pytest.mark.parametrize("fate", [signal.SIGKILL, signal.SIGSTOP])
def test_a_tunnel_process_that_dies_or_hangs_is_replaced(world: World, fate: signal.Signals) -> None:
    ha, mn = world.start(
        "home-agent", "mobile-node"
    )  # the home agent has one on every kernel: it sends copies
    world.to_hotel()
    mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    before, first = len(ha.events), tunnel_process(ha)
    os.kill(first, fate)
    ha.wait("tunnel-restarted", after=before)
    assert world.both_ways()
    assert tunnel_process(ha) != first
    assert not [event for event in ha.events[before:] if event["event"] == "binding"]


def test_a_daemon_whose_device_is_deleted_ends_and_begins_again_with_its_bindings(world: World) -> None:
    ha, mn = world.start("home-agent", "mobile-node")
    world.to_hotel()
    mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    world.ip("ha", "link", "del", "mip0")
    assert ha.process.wait(5) == 3
    assert world.ip("ha", "neigh", "show", "proxy") == ""
    ha.start()
    assert world.both_ways()


def test_a_virtual_home_network(world: World) -> None:
    world.configure("home-agent", CONFIG["home-agent"].replace('interface = "home"', ""))
    before = world.ip("ha", "route")
    ha, mn = world.start("home-agent", "mobile-node")
    world.ip("ha", "addr", "flush", "dev", "home")
    world.ip("core", "route", "add", HOME_ADDRESS, "via", HOME_AGENT)
    world.to_hotel()
    mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    assert world.ping("core", HOME_ADDRESS)
    assert "unreachable 192.0.2.0/24" in world.ip("ha", "route")
    mn.wait("deregistered", after=mn.do("deregister"))
    assert not world.ping("core", HOME_ADDRESS, seconds=0.3)
    ha.stop()
    assert "192.0.2" not in world.ip("ha", "route")
    assert "unreachable" not in before


def test_what_nobody_registered_is_dropped(world: World) -> None:
    ha, mn = world.start("home-agent", "mobile-node")
    world.to_hotel()
    mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    forge = textwrap.dedent("""
        import socket, struct, sys
        def header(source, destination, protocol, length):
            head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + length, 1, 0, 64, protocol, 0,
                               socket.inet_aton(source), socket.inet_aton(destination))
            total = sum(struct.unpack("!10H", head))
            return head[:10] + (-total % 0xffff).to_bytes(2, "big") + head[12:]
        outer, to, source, destination = sys.argv[1:]
        echo = b"\\x08\\0\\xf7\\xff\\0\\0\\0\\0"
        inner = header(source, destination, 1, len(echo)) + echo
        s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        s.bind((outer, 0))
        s.sendto(header(outer, to, 4, len(inner)) + inner, (to, 0))
        """)

    def send(node: str, *addresses: str) -> None:
        run("ip", "netns", "exec", PREFIX + node, sys.executable, "-c", forge, *addresses)

    def counter(daemon: Daemon, name: str) -> int:
        return int(daemon.ask("state")["tunnel"][name])

    send("core", "203.0.113.1", HOME_AGENT, HOME_ADDRESS, CN)  # not from the care-of address
    send("mn", CARE_OF_HOTEL, HOME_AGENT, "192.0.2.77", CN)  # from no mobile node of ours
    time.sleep(0.1)
    assert counter(ha, "refused") == 2
    assert counter(ha, "decapsulated") == 0
    send("core", "203.0.113.1", CARE_OF_HOTEL, CN, HOME_ADDRESS)  # not from the home agent
    send("ha", HOME_AGENT, CARE_OF_HOTEL, CN, "192.0.2.77")  # not for the home address
    time.sleep(0.1)
    if mn.ask("state")["backend"] == "tun":  # a kernel's tunnel does not count what is no packet of its own
        assert counter(mn, "refused") == 2
        assert counter(mn, "decapsulated") == 0


def test_the_daemon_reacts_at_once(world: World) -> None:
    _, mn = world.start("home-agent", "mobile-node")
    world.to_hotel()
    took = []
    for _ in range(10):
        begin = time.monotonic()
        mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
        took.append(mn.events[-1]["monotonic"] - begin)
        mn.do("detach")
    assert sorted(took)[len(took) // 2] < 0.030, took


def test_events_reach_subscribers(world: World) -> None:
    (mn,) = world.start("mobile-node")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(mn.socket))
        lines = connection.makefile()
        connection.sendall(b'{"op": "subscribe", "id": 7}\nnonsense\n{"op": "fly"}\n{"op": "attach"}\n')
        assert json.loads(lines.readline()) == {"ok": True, "id": 7}
        for text in ("not JSON", "there are attach, deregister, detach, discover", "'interface' must be"):
            reply = json.loads(lines.readline())
            assert not reply["ok"]
            assert text in reply["error"]
        assert not mn.ask("attach", interface="hotel", care_of=HOME_ADDRESS)["ok"]
        assert not mn.ask("discover", interface="nowhere")["ok"]
        world.only_up("hotspot")
        mn.do("detach")
        event = json.loads(lines.readline())
        assert event["event"] == "detached"
        assert event["source"] == "mobile-node"
        assert event["monotonic"] <= time.monotonic()


def test_wrong_configurations_end_with_4(world: World, tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text('home-adress = "192.0.2.100"\n')
    command = [sys.executable, "-m", "testbed.mobileip", "mobile-node", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert str(file) in done.stderr
