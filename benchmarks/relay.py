"""Packets per second across the Internet hub while it delays them, against the hub that only forwards.

UDP datagrams go from the mobile node, plainly routed, to the correspondent node at rising rates; a rate is
held when less than one in a thousand is lost and as many were sent as asked for.
"""

from __future__ import annotations

import re
from typing import Final

from benchmarks.common import arguments, engine_and_image, iperf, lab, note, print_machine, print_table, run
from testbed.engine.api import Container
from testbed.engine.docker import DockerEngine
from testbed.lab.daemons import ask

RATES: Final = (5_000, 10_000, 15_000, 20_000, 30_000, 40_000, 60_000, 80_000, 120_000)  # packets/s
PAYLOAD: Final = 200  # bytes
LOSS: Final = 0.1  # percent


def held(
    engine: DockerEngine, mobile: Container, source: str, rate: int, seconds: int
) -> tuple[float, float]:
    """Send so many packets per second; return how many were sent per second, and the loss in percent."""
    end = iperf(
        engine, mobile, "--client", "cn", "--bind", source, "--udp", "--length", str(PAYLOAD),
        "--bitrate", str(rate * PAYLOAD * 8), "--time", str(seconds), "--pacing-timer", "100",
    )["sum"]  # fmt: skip
    return end["packets"] / end["seconds"], end["lost_percent"]


def round_trip(engine: DockerEngine, mobile: Container, source: str) -> tuple[float, float]:
    """Return the average round trip to the correspondent node and its deviation in ms."""
    text = run(engine, mobile, "ping", "-q", "-c", "50", "-i", "0.02", "-I", source, "cn")
    numbers = re.search(r"= [\d.]+/([\d.]+)/[\d.]+/([\d.]+) ms", text)
    assert numbers, text
    return float(numbers[1]), float(numbers[2])


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=int, default=3, help="of each rate (default: 3)")
    parser.add_argument("--delay", type=float, default=20.0, help="ms, one way (default: 20)")
    options = parser.parse_args()
    rows: list[list[str]] = []
    most: list[float] = []
    with engine_and_image() as (engine, image):
        sets = ["network.internet.delay=0ms", "attach=hotel"]
        with lab(engine, image, "plain-mip", "bench-relay", sets) as where:
            mobile, core = where.node("mn"), where.node("core")
            run(engine, where.node("cn"), "iperf3", "--server", "--daemon")
            source = ask(engine, mobile, "roam", {"op": "state"})["address"].split("/")[0]
            for delay in (0.0, options.delay):
                backend = ask(engine, core, "relay", {"op": "set", "delay_ms": delay})["backend"]
                name = f"{backend}, {delay:g} ms each way" if delay else "plain forwarding"
                average, deviation = round_trip(engine, mobile, source)
                best, first_loss = 0.0, 0.0
                for rate in RATES:
                    sent, lost = held(engine, mobile, source, rate, options.seconds)
                    if lost > LOSS:  # once more: another process may have been in the way
                        sent, lost = held(engine, mobile, source, rate, options.seconds)
                    note(f"{name}: {rate} asked, {sent:.0f} sent, {lost:.2f} % lost")
                    if rate == RATES[0]:
                        first_loss = lost
                    if lost > LOSS:
                        break
                    best = sent
                    if sent < 0.95 * rate:
                        break
                most.append(best)
                rows.append(
                    [
                        name,
                        f"{average:.2f} ± {deviation:.2f} ms",
                        f"{first_loss:.2f} %",
                        f"{best:,.0f}",
                        f"{best / most[0]:.2f}" if most[0] else "",
                    ]
                )
        print_table(
            f"Packets of {PAYLOAD} bytes across the hub ({LOSS} % loss allowed)",
            ["", "round trip", f"lost at {RATES[0]:,}/s", "most held per second", "to plain"],
            rows,
            markdown=options.markdown,
        )
        print_machine(engine)


if __name__ == "__main__":
    main()
