"""`python3 -m testbed.node.relay --config FILE`: emulate the hub network's delay, jitter, loss and rate.

Control socket: `{"op":"state"}` reports the backend, the impairment in force and counters;
`{"op":"set","delay_ms":40,…}` changes any of delay_ms, jitter_ms, loss, rate at once; the change outlives the
process, not the node.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import selectors
import signal
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from testbed.agreed import READY, RELAY, Impairment, Op
from testbed.mobileip.io.control import Connection, RequestError
from testbed.mobileip.io.errors import ConfigError, NodeError
from testbed.mobileip.io.journal import Journal
from testbed.node.relay.backend import Backend, choose
from testbed.node.relay.gate import hold, let_pass
from testbed.node.relay.relay_toml import RelayConfig, load
from testbed.node.relay.spawn import CommandError
from testbed.node.serving import serve as serve_requests

MOST = {"delay_ms": 60_000.0, "jitter_ms": 60_000.0, "loss": 100.0, "rate": 1e12}
"""The largest value of each setting."""


class Relay:
    """Carries out the control socket's requests on a backend."""

    def __init__(self, config: RelayConfig, backend: Backend) -> None:
        self.journal = Journal(RELAY)
        self._interface = config.interface
        self._state = config.state
        self._backend = backend
        self._impairment = config.impairment

    async def start(self) -> None:
        """Bring into force what a predecessor was last told, else what the configuration says."""
        await self.apply(remembered(self._state) or self._impairment)

    async def apply(self, impairment: Impairment) -> None:
        """Bring an impairment into force, and then let packets cross."""
        await self._backend.apply(impairment)
        cross = hold if self._backend.detour and impairment.active else let_pass
        await cross(self._interface)
        self._impairment = impairment

    async def handle(self, request: dict[str, Any], _connection: Connection) -> dict[str, Any]:
        """Answer one request."""
        match request["op"]:
            case Op.STATE:
                pass
            case Op.SET:
                try:
                    await self.apply(changed(self._impairment, request))
                except CommandError as error:
                    raise RequestError(str(error)) from error
                remember(self._state, self._impairment)
                self.journal.tell("changed", dataclasses.asdict(self._impairment))
            case other:
                raise RequestError(f"unknown op {other!r}; expected state or set")
        return {
            "interface": self._interface,
            "backend": self._backend.name,
            "active": self._impairment.active,
            **dataclasses.asdict(self._impairment),
            "counters": await self._backend.counters(),
        }


def changed(impairment: Impairment, request: dict[str, object]) -> Impairment:
    """The impairment with what the request sets; raises RequestError."""
    values = {}
    for key, value in request.items():
        if key in ("op", "id"):
            continue
        if key not in MOST:
            raise RequestError(f"unknown setting {key!r}; expected {', '.join(MOST)}")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MOST[key]:
            raise RequestError(f"{key}: expected a number from 0 to {MOST[key]:g}, got {value!r}")
        values[key] = float(value)
    return dataclasses.replace(impairment, **values)


def remember(file: Path, impairment: Impairment) -> None:
    """Keep an impairment for the relay that the supervisor starts when this one dies."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps(dataclasses.asdict(impairment)))
    new.replace(file)


def remembered(file: Path) -> Impairment | None:
    """The impairment that was kept; None where none was."""
    try:
        return Impairment(**json.loads(file.read_text()))
    except FileNotFoundError:
        return None


async def serve(config: RelayConfig) -> None:
    """Emulate until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    backend = await choose(config.backend, config.interface)
    try:
        relay = Relay(config, backend)
        await relay.start()
        with closing(serve_requests(config.control, relay.journal, relay.handle)):
            relay.journal.tell(READY, {"backend": backend.name})
            await stop.wait()
    finally:
        await backend.close()


def precise_loop() -> asyncio.AbstractEventLoop:
    """An event loop on select(): its timeouts have microseconds, those of epoll milliseconds."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


def main() -> int:
    """Run the program; the exit code says whether it could do its work."""
    parser = argparse.ArgumentParser(prog="testbed.node.relay", description="Delay packets that cross a hub")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="relay.toml")
    arguments = parser.parse_args()
    try:
        with asyncio.Runner(loop_factory=precise_loop) as runner:
            runner.run(serve(load(arguments.config)))
    except (ConfigError, NodeError, CommandError, OSError) as error:
        print(f"relay: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
