r"""Home agent, foreign agent and mobile node on the nodes of a lab, started and stopped by tests.

    core ------ ha ---+--- cn
   /    \             | home
hotel    fa           |
   \      \ hotspot   |
    +------ mn -------+
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import textwrap
import time
from base64 import b64encode
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from node_programs import Done, Program, execute

from testbed.engine.api import Engine
from testbed.topology.load import load_topology
from testbed.topology.loaded import LoadedTopology

DAEMONS = Path(__file__).parent / "mobileip" / "daemons.yaml"
KEY = "00112233445566778899aabbccddeeff"
HOME_ADDRESS, HOME_AGENT, CN = "192.0.2.100", "203.0.113.2", "192.0.2.10"
FA, CARE_OF_FA, CARE_OF_HOTEL = "198.51.100.1", "203.0.113.6", "198.51.100.70"
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
# Links, addresses and routes as the node's init makes them; links that go down take their routes with them.
RESET = """
{
    while read -r network address; do
        echo "link set $network down mtu 1500"
        echo "address flush dev $network"
        [ "$address" = - ] && continue
        echo "address add $address brd + dev $network"
        echo "link set $network up"
    done </etc/testbed/links
    echo "route flush type unreachable"
    while read -r route; do echo "$route"; done </etc/testbed/routes
    echo "rule del pref 50"
} | ip -force -batch - 2>/dev/null
find /run/testbed -maxdepth 1 ! -type d -delete
"""


def counted(capture: Path, *displays: str) -> list[int]:
    """How many packets of a capture each display filter selects, which has no comma: one tshark for all."""
    table = _tshark(capture, "-q", "-z", ",".join(["io,stat,0", *displays]))
    if re.search(r"Duration: 0\.0+ secs", table):  # of a single instant there are no statistics
        return [len(_tshark(capture, "-Y", display).splitlines()) for display in displays]
    frames_and_octets = re.findall(r"\d+", table.partition(" <> ")[2].partition("|")[2])
    assert len(frames_and_octets) == 2 * len(displays), table
    return [int(frames) for frames in frames_and_octets[::2]]


def _tshark(capture: Path, *options: str) -> str:
    command = ["tshark", "-r", str(capture), *options]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def check_packets(capture: Path, *there: str, never: Sequence[str] = ()) -> None:
    """tshark sees packets that each of the filters selects, but none of those `never`, and none malformed."""
    absent = ("_ws.malformed", *never)
    counts = dict(zip((*there, *absent), counted(capture, *there, *absent), strict=True))
    assert all(counts[one] for one in there) and not any(counts[one] for one in absent), counts


def topology() -> LoadedTopology:
    return load_topology(str(DAEMONS), templates=DAEMONS.parent)


class Daemon:
    """One of the three daemons, its events and its control socket; a further one of a kind has a name."""

    def __init__(self, world: World, role: str, name: str | None = None, node: str | None = None) -> None:
        self._world = world
        self.role = role
        self.name = name or role
        self.node = node or PLACES[role]
        self.socket = f"/run/testbed/{self.name}.sock"
        self._earlier: list[dict[str, Any]] = []
        self.start()

    def start(self) -> None:
        if hasattr(self, "program"):
            self._earlier = self.events
        command = [
            "python3",
            "-m",
            "testbed.mobileip",
            self.role,
            "--config",
            f"/run/testbed/{self.name}.toml",
        ]
        before = len(self._earlier)
        self.program = self._world.start_program(self.node, *command, "--control", self.socket)
        self.wait("ready", after=before)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [*self._earlier, *map(json.loads, self.program.lines)]

    def wait(self, event: str, timeout: float = 20.0, after: int = 0, **fields: Any) -> dict[str, Any]:
        """The first event of that name and those fields, of those from number `after` on."""
        found: list[dict[str, Any]] = []

        def come() -> bool:
            events = (e for e in self.events[after:] if e["event"] == event and fields.items() <= e.items())
            found.extend(events)
            return bool(found)

        assert self.program.until(come, timeout), (
            f"{self.role}: no {event} {fields} in {self.events[after:]}; {self.program.stderr.decode()}"
        )
        return found[0]

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        request = json.dumps({"op": op, **fields})
        command = ["sh", "-c", 'echo "$1" | socat -t 5 - "UNIX-CONNECT:$2"', "sh", request, self.socket]
        reply: dict[str, Any] = json.loads(self._world.run(self.node, *command).splitlines()[0])
        return reply

    def do(self, op: str, **fields: Any) -> int:
        """Give a command; returns the number of events before it."""
        before = len(self.events)
        reply = self.ask(op, **fields)
        assert reply["ok"], reply
        return before

    def stop(self, number: int = signal.SIGTERM) -> int:
        return self.program.stop(number)


class World:
    """The lab's nodes, the programs that a test started there, and its daemons."""

    def __init__(self, engine: Engine, nodes: dict[str, str], folder: Path) -> None:
        self._engine = engine
        self._nodes = nodes  # the ids of their containers, by name
        self._folder = folder
        self._programs: list[Program] = []
        self._captures: list[tuple[Program, Path]] = []
        self.daemons: dict[str, Daemon] = {}
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda node: self.run(node, "sh", "-c", RESET), nodes))
        for role, text in CONFIG.items():
            self.configure(role, text)

    def configure(self, name: str, text: str, node: str | None = None) -> None:
        place = f"/run/testbed/{name}.toml"
        self.run(node or PLACES[name], "sh", "-c", 'echo "$1" >"$2"', "sh", textwrap.dedent(text), place)

    def execute(self, node: str, *command: str) -> Done:
        """Run a program in a node to its end."""
        return execute(self._engine, self._nodes[node], *command)

    def run(self, node: str, *command: str) -> str:
        """Run a program that succeeds; returns what it wrote."""
        done = self.execute(node, *command)
        assert done.returncode == 0, f"{node}: {command}: {done.stderr}"
        return done.stdout

    def ip(self, node: str, *arguments: str) -> str:
        return self.run(node, "ip", *arguments)

    def start_program(self, node: str, *command: str) -> Program:
        """Start a program, which ends with the test at the latest."""
        program = Program(self._engine, self._nodes[node], *command)
        self._programs.append(program)
        return program

    def start(self, *roles: str) -> list[Daemon]:
        for role in roles:
            self.daemons[role] = Daemon(self, role)
        return [self.daemons[role] for role in roles]

    def start_another(self, name: str, role: str, node: str, text: str) -> Daemon:
        """Start a further daemon of a kind."""
        self.configure(name, text, node)
        self.daemons[name] = Daemon(self, role, name, node)
        return self.daemons[name]

    def to_hotel(self) -> None:
        """What a connection manager does: link, address, and the routes of the care-of address."""
        self.only_up("hotel")
        self.ip("mn", "addr", "replace", f"{CARE_OF_HOTEL}/26", "dev", "hotel")
        self.ip("mn", "route", "replace", "default", "via", "198.51.100.65", "dev", "hotel", "table", "100")
        if "lookup 100" not in self.ip("mn", "rule"):
            self.ip("mn", "rule", "add", "pref", "50", "from", CARE_OF_HOTEL, "lookup", "100")

    def tunnel(self, node: str) -> str:
        """The device of a node's tunnel: one of the kernel's where there is one, else that of the process."""
        links = (line.split()[1] for line in self.ip(node, "-o", "link").splitlines())
        return max(re.findall(r"^mip\d+", "\n".join(links), re.MULTILINE))

    def only_up(self, link: str) -> None:
        script = 'for other in hotel hotspot home; do ip link set "$other" down; done; ip link set "$1" up'
        self.run("mn", "sh", "-c", script, "sh", link)

    def ping(self, node: str, destination: str, source: str | None = None, seconds: float = 2.0) -> bool:
        """Ask ten times a second until an answer comes."""
        tries = ["-r", str(round(seconds * 10) - 1), "-t", "100", "-B", "1", "-i", "1"]
        origin = ["-S", source] if source else []
        return self.execute(node, "fping", "-q", *tries, *origin, destination).returncode == 0

    def both_ways(self) -> bool:
        """From the home address to the correspondent, and back."""
        return self.ping("mn", CN) and self.ping("mn", CN, HOME_ADDRESS) and self.ping("cn", HOME_ADDRESS)

    def capture(self, node: str, interface: str) -> Path:
        """Start a capture; `end_captures` writes the file."""
        command = ["tcpdump", "--immediate-mode", "-U", "-Z", "root", "-ni", interface, "-w", "-"]
        program = self.start_program(node, *command)
        assert program.until(lambda: b"listening" in program.stderr), program.stderr.decode()
        file = self._folder / f"{node}-{interface}.pcap"
        self._captures.append((program, file))
        return file

    def end_captures(self) -> None:
        time.sleep(0.2)
        for program, file in self._captures:
            program.stop(signal.SIGINT)
            file.write_bytes(program.output)
        self._captures.clear()

    def tcpdump(self, capture: Path, *arguments: str) -> str:
        """What tcpdump, which nodes have, reads in a capture."""
        script = 'echo "$1" | base64 -d | tcpdump -r - "${@:2}" 2>/dev/null'
        return self.run(
            "cn", "bash", "-c", script, "bash", b64encode(capture.read_bytes()).decode(), *arguments
        )

    def close(self) -> None:
        """End what the test started; daemons take back what they set up, unless they were killed."""
        for daemon in self.daemons.values():
            if daemon.program.running:
                daemon.stop()
        for program in self._programs:
            program.close()
