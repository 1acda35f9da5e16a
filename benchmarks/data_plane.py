"""TCP throughput of the mobile node: plain routing, Mobile IP's tunnels, and Mobile IP inside IPsec.

All delays are 0, so that the hub forwards like any router. Plain routing is measured on the very path that
the tunnel takes: from the care-of address instead of the home address.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from benchmarks.common import arguments, engine_and_image, iperf, lab, note, print_machine, print_table, run
from testbed.engine.api import Container
from testbed.engine.docker import DockerEngine
from testbed.lab.daemons import ask
from testbed.lab.move import move
from testbed.lab.state import ActualLab

NO_DELAY: Final = "network.internet.delay=0ms"


class Meter:
    """Measures between the mobile node of a lab and its correspondent node."""

    def __init__(self, engine: DockerEngine, lab: ActualLab, seconds: int) -> None:
        self._engine = engine
        self._lab = lab
        self._seconds = seconds
        self.mobile: Container = lab.node("mn")
        cn = lab.node("cn")
        run(engine, cn, "iperf3", "--server", "--daemon")

    def state(self) -> dict[str, Any]:
        """Return what the mobile node's connection manager says."""
        return ask(self._engine, self.mobile, "roam", {"op": "state"})

    def move(self, network: str) -> None:
        """Attach the mobile node to a network; raises RuntimeError unless it is registered there."""
        *_, settled = move(self._engine, self._lab, "mn", network)
        if settled.get("state") not in ("registered", "connected", "home"):
            note(f"{self._lab.name}: {settled}")

    def measure(self, source: str, *, device: str | None = None) -> tuple[float, float]:
        """Return the bit/s sent and received by the mobile node from an address of its own."""
        common = ("--client", "cn", "--bind", source + (f"%{device}" if device else ""))
        rates = []
        for direction in ((), ("--reverse",)):
            end = iperf(
                self._engine, self.mobile, *common, "--time", str(self._seconds), "--omit", "1", *direction
            )
            rates.append(float(end["sum_received"]["bits_per_second"]))
        return rates[0], rates[1]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=int, default=5, help="of each transfer (default: 5)")
    parser.add_argument("--rounds", type=int, default=2, help="the best of so many is taken (default: 2)")
    options = parser.parse_args()
    results: list[tuple[str, tuple[float, float]]] = []

    def best(name: str, measure: Callable[[], tuple[float, float]]) -> None:
        runs = [measure() for _ in range(options.rounds)]
        results.append((name, (max(up for up, _ in runs), max(down for _, down in runs))))
        note(f"{name}: {runs}")

    with engine_and_image() as (engine, image):
        with lab(engine, image, "plain-mip", "bench-plain", [NO_DELAY, "attach=hotel"]) as plain:
            meter = Meter(engine, plain, options.seconds)
            care_of, home = meter.state()["address"].split("/")[0], "192.0.2.100"
            best("plain routing (no tunnel)", lambda: meter.measure(care_of))
            best("Mobile IP, co-located, reverse tunnel", lambda: meter.measure(home))
            meter.move("hotspot")
            best("Mobile IP, foreign agent, reverse tunnel", lambda: meter.measure(home))
        with lab(engine, image, "scenario-2.1", "bench-ipsec", [NO_DELAY, "attach=hotel"]) as secure:
            meter = Meter(engine, secure, options.seconds)
            state = meter.state()
            inner = state["ipsec"]["inner"]
            best("IPsec alone (userspace ESP)", lambda: meter.measure(inner))
            best("Mobile IP inside IPsec", lambda: meter.measure("10.0.1.100"))
        base = results[0][1]

        def cells(rates: tuple[float, float]) -> list[str]:
            shown: list[str] = []
            for rate, whole in zip(rates, base, strict=True):
                shown += [f"{rate / 1e6:,.0f} Mbit/s", f"{rate / whole:.3f}"]
            return shown

        print_table(
            f"TCP throughput of the mobile node, {options.seconds} s, best of {options.rounds}",
            ["", "MN → CN", "to plain", "CN → MN", "to plain"],
            [[name, *cells(rates)] for name, rates in results],
            markdown=options.markdown,
        )
        print_machine(engine)


if __name__ == "__main__":
    main()
