"""Services of a node started again under its supervisor, so that they read their edited files anew."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from testbed.agreed import ESP_PLANE, ESP_USERSPACE, READY
from testbed.engine.api import Container, Engine
from testbed.errors import NotReadyError, TestbedError, UsageError, did_you_mean
from testbed.lab.access import EventLog
from testbed.lab.inside import run_inside
from testbed.lab.ready import last_words

NFTABLES: Final = "nftables"
"""What stands for the rules of nftables among the services of a node."""
READY_WITHIN: Final = 20.0
"""Seconds from the start of the services to the last one's word."""
_STOPPING: Final = 10  # seconds a service may take to end before it is killed

_LIST: Final = """\
[ -x /usr/bin/sv ] || exit 3
for service in /etc/testbed/services/*; do [ ! -d "$service" ] || echo "${service##*/}"; done
for rules in /etc/nftables.d/*.nft /etc/testbed/esp/userspace.nft; do
    [ ! -e "$rules" ] || { echo nftables; break; }
done
"""

# The tables that the files make are deleted and made again in one transaction: nothing passes unfiltered, and
# where a file has a mistake the old rules stay. Tables of daemons are left alone.
_LOAD_RULES: Final = f"""\
set -- /etc/nftables.d/*.nft
[ "$(cat {ESP_PLANE} 2>/dev/null)" != {ESP_USERSPACE} ] || set -- "$@" /etc/testbed/esp/userspace.nft
for rules; do
    [ -e "$rules" ] || continue
    awk '$1 == "table" {{ print "table", $2, $3; print "delete table", $2, $3 }}' "$rules"
    echo "include \\"$rules\\""
done | nft --file -
"""

_STOP: Final = f"""\
sv -w {_STOPPING} force-stop "$@" >/dev/null
cut -d ' ' -f 1 /proc/uptime
sv up "$@" >/dev/null
"""
_WHY_NOT_READY: Final = r"""sh -c "$(sed -n 's/^ *until \(.*\) >\/dev\/null 2>&1; do$/\1/p' "$1/run")" """


@dataclass(frozen=True, slots=True)
class Restarted:
    """A service that came up again."""

    service: str
    seconds: float | None
    """From its start to its word that it is ready; None for what reports none: the rules of nftables."""


def services_of(engine: Engine, container: Container) -> list[str]:
    """The services of a running node, and `nftables` where it has rules; raises `TestbedError`."""
    done = run_inside(engine, container, ["sh", "-c", _LIST])
    if done.code == 3:
        raise UsageError("the node's own image has no supervisor of the testbed's")
    return done.text.split()


def restart(
    engine: Engine,
    container: Container,
    node: str,
    services: Collection[str] = (),
    within: float = READY_WITHIN,
) -> list[Restarted]:
    """Start services of a node again, all or those named, and return when each says that it is ready.

    The rules of nftables are loaded first: the tables of the node's files, in one transaction. Raises
    `UsageError` (no such service), `TestbedError` with the last words of a service that ends again or of
    rules that are not valid, `NotReadyError`.
    """
    known = services_of(engine, container)
    for name in services:
        if name not in known:
            raise UsageError(f"{node} has no service {name}", hint=did_you_mean(name, known))
    wanted = [name for name in known if name in services or not services]
    done = [Restarted(NFTABLES, None)] if NFTABLES in wanted else []
    if done:
        _load_rules(engine, container, node)
    daemons = [name for name in wanted if name != NFTABLES]
    return [*done, *_start_again(engine, container, node, daemons, within)] if daemons else done


def _load_rules(engine: Engine, container: Container, node: str) -> None:
    loaded = run_inside(engine, container, ["sh", "-c", _LOAD_RULES])
    if loaded.code:
        said = [line for line in loaded.err.decode(errors="replace").splitlines() if line[:1] != "#"]
        raise TestbedError(
            "\n  ".join([f"{node}: nft does not take the rules; the old ones stay", *said[:4]]),
            hint="correct the file that nft names, and restart again",
        )


def _start_again(
    engine: Engine, container: Container, node: str, services: Sequence[str], within: float
) -> list[Restarted]:
    folders = [f"/etc/testbed/services/{service}" for service in services]
    facts = json.loads(run_inside(engine, container, ["cat", "/etc/testbed/node.json"]).text)
    log = EventLog()
    log.follow(engine, {node: container.id})
    try:
        stopped = run_inside(
            engine, container, ["sh", "-c", _STOP, "sh", *folders], within=within + _STOPPING
        )
        if stopped.code:
            raise TestbedError(f"{node}: the supervisor does not start its services: {stopped.complaint}")
        began = float(stopped.text)
        left = {service for service in services if service in facts["ready"]}
        up: dict[str, float | None] = dict.fromkeys(services)
        deadline = time.monotonic() + within
        while left:
            word = log.wait(
                0,
                lambda one: (
                    one.source in left and one.name in (READY, "exit") and (one.monotonic or 0) >= began
                ),
                deadline - time.monotonic(),
            )
            if word is None:
                raise _late(engine, container, node, left, within)
            if word.name == "exit":
                raise _ended(engine, container, node, word.source, word.fields)
            left.discard(word.source)
            up[word.source] = (word.monotonic or began) - began
    finally:
        log.stop()
    return [Restarted(service, seconds) for service, seconds in up.items()]


def _ended(
    engine: Engine, container: Container, node: str, service: str, fields: Mapping[str, object]
) -> TestbedError:
    how = f"status {fields.get('status')}" if fields.get("code") == -1 else f"exit code {fields.get('code')}"
    said = [line for line in last_words(engine, container.id) if line[:1] != "#"][-4:]  # no warnings of nft
    message = "\n  ".join([f"{service} of {node} ended again ({how}); its last words:", *said])
    return TestbedError(message, hint="its supervisor tries again every second: correct its file")


def _late(
    engine: Engine, container: Container, node: str, services: Collection[str], within: float
) -> NotReadyError:
    lines = [f"{', '.join(sorted(services))} of {node} not ready after {within:g} s"]
    for service in sorted(services):
        done = run_inside(
            engine, container, ["sh", "-c", _WHY_NOT_READY, "sh", f"/etc/testbed/services/{service}"]
        )
        lines += (
            (done.text + done.err.decode(errors="replace")).strip().splitlines()[-4:] if done.code else []
        )
    return NotReadyError("\n  ".join(lines), hint="correct what it complains of, and restart again")
