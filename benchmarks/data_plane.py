"""TCP throughput of the mobile node: Mobile IP's tunnels and IPsec, against plain routing on the same path.

What carries tunnels and ESP is probed by the nodes, so that the rows depend on the engine's kernel. All
delays are 0: the hub forwards like any router. A round measures every way in turn; a ratio is of one round,
and the median of all rounds counts, so that what else the machine does in between matters less.

Virtual links carry up to 64 KiB of a connection as one packet, and so do the kernel's tunnels. No wire does,
and what a process sends into a tunnel are packets as on a wire. So plain routing is also measured with such.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from typing import Any, Final

from benchmarks.common import arguments, engine_and_image, iperf, lab, note, print_machine, print_table, run
from benchmarks.past_ipsec import PastIpsec
from testbed.agreed import ESP_KERNEL, ESP_PLANE
from testbed.engine.api import Container
from testbed.engine.docker import DockerEngine
from testbed.lab.daemons import ask
from testbed.lab.state import ActualLab, node_facts

NO_DELAY: Final = "network.internet.delay=0ms"
PLAIN: Final = "plain routing"
PACKETS: Final = "plain routing, packet by packet"
BY_HAND: Final = "ESP by `ip xfrm` by hand"
ENCAPSULATIONS: Final = ("ip-in-ip", "gre", "minimal")
OFFLOAD: Final = """
import fcntl, socket, struct, sys, ctypes
value = ctypes.create_string_buffer(struct.pack("=II", 0x17, int(sys.argv[2])))  # ETHTOOL_STXCSUM
request = struct.pack("16sP16x", sys.argv[1].encode(), ctypes.addressof(value))
fcntl.ioctl(socket.socket(), 0x8946, request)  # SIOCETHTOOL
"""
"""Lets checksums be left to a link, or not: without, packets are made as they are on a wire before it."""
Round = dict[str, tuple[float, float]]
"""What each way carried, in bit/s: sent and received by the mobile node."""


class Meter:
    """Measures between the mobile node of a lab and its correspondent node."""

    def __init__(self, engine: DockerEngine, lab: ActualLab, seconds: int) -> None:
        self._engine = engine
        self._lab = lab
        self._seconds = seconds
        self.mobile: Container = lab.node("mn")
        self._correspondent = next(iter(node_facts(lab.node("cn")).links))
        run(engine, lab.node("cn"), "iperf3", "--server", "--daemon")

    def state(self, node: str, service: str) -> dict[str, Any]:
        """Return what a daemon says."""
        return ask(self._engine, self._lab.node(node), service, {"op": "state"})

    def plane(self) -> str:
        """Return what carries the Mobile IP tunnels at their two ends."""
        ends = {self.state("mn", "mobile-node")["backend"], self.state("ha", "home-agent")["backend"]}
        return " and ".join(sorted(ends))

    def rounds(self, count: int, sources: Mapping[str, str]) -> list[Round]:
        """Measure from each of these addresses of the mobile node, in turn."""
        found = []
        for number in range(count):
            found.append({way: self._measure(way, address) for way, address in sources.items()})
            note(f"{self._lab.name}, round {number + 1}: {found[-1]}")
        return found

    def _measure(self, way: str, source: str) -> tuple[float, float]:
        if way == PACKETS:
            with self._packet_by_packet():
                return self._measure(PLAIN, source)
        common = ("--client", "cn", "--bind", source, "--time", str(self._seconds), "--omit", "1")
        up, down = (
            float(iperf(self._engine, self.mobile, *common, *way)["sum_received"]["bits_per_second"])
            for way in ((), ("--reverse",))
        )
        return up, down

    @contextmanager
    def _packet_by_packet(self) -> Iterator[None]:
        """Have both ends send packets as they are on a wire."""
        ends = ((self.mobile, "hotel"), (self._lab.node("cn"), self._correspondent))
        try:
            for node, link in ends:
                run(self._engine, node, "python3", "-c", OFFLOAD, link, "0")
            yield
        finally:
            for node, link in ends:
                run(self._engine, node, "python3", "-c", OFFLOAD, link, "1")


def table(title: str, rounds: list[Round]) -> tuple[str, list[str], list[list[str]]]:
    """Title, head and a row for each way: the median rates, and the medians of their ratios.

    Ratios are to plain routing, and to ESP by hand where that was measured.
    """
    baselines = {PLAIN: "to plain", PACKETS: "to packet by packet", BY_HAND: "to ESP by hand"}
    measured = [way for way in baselines if way in rounds[0]]
    words = [baselines[way] for way in measured]
    rows = []
    for way in rounds[0]:
        row = [way]
        for direction in (0, 1):
            rate = median(each[way][direction] for each in rounds)
            row.append(f"{rate / 1e6:,.0f} Mbit/s")
            for baseline in measured:
                ratios = [each[way][direction] / each[baseline][direction] for each in rounds]
                row.append(f"{median(ratios):.3f}")
        rows.append(row)
    return title, ["", "MN → CN", *words, "CN → MN", *words], rows


def main() -> None:
    """Measure and print the tables."""
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=int, default=5, help="of each transfer (default: 5)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: 3)")
    options = parser.parse_args()
    tables = []
    with engine_and_image() as (engine, image):
        for encapsulation in ENCAPSULATIONS:
            sets = [NO_DELAY, "attach=hotel", f"node.mn.encapsulation={encapsulation}"]
            with lab(engine, image, "plain-mip", f"bench-{encapsulation}", sets) as plain:
                meter = Meter(engine, plain, options.seconds)
                state = meter.state("mn", "roam")
                care_of = state["address"].split("/")[0]
                ways = {PLAIN: care_of, PACKETS: care_of, f"Mobile IP, {encapsulation}": "192.0.2.100"}
                found = meter.rounds(options.rounds, ways)
                tables.append(table(f"{encapsulation}, carried by: {meter.plane()}", found))
        with lab(engine, image, "scenario-2.1", "bench-ipsec", [NO_DELAY, "attach=hotel"]) as secure:
            meter = Meter(engine, secure, options.seconds)
            state = meter.state("mn", "roam")
            esp = run(engine, meter.mobile, "cat", ESP_PLANE).strip()
            inner, care_of = state["ipsec"]["inner"], state["address"].split("/")[0]
            past = PastIpsec(engine, secure, esp == ESP_KERNEL, care_of, inner)
            ways = dict.fromkeys((PLAIN, PACKETS), past.open()) | (
                {BY_HAND: past.by_hand()} if esp == ESP_KERNEL else {}
            )
            ways |= {"IPsec alone": inner, "Mobile IP inside IPsec": "10.0.1.100"}
            found = meter.rounds(options.rounds, ways)
            tables.append(table(f"ESP, carried by: {esp}; Mobile IP by: {meter.plane()}", found))
        for title, head, rows in tables:
            print_table(title, head, rows, markdown=options.markdown)
        print(f"\n{options.rounds} rounds of {options.seconds} s")
        print_machine(engine)


if __name__ == "__main__":
    main()
