"""The keys of a running lab's IPsec, while somebody captures: charon logs them for as long as that takes.

charon writes a key to its log as it makes it, and nowhere else. So its log is set to the level that has keys,
and every association that is there already is renewed once, before the first packet is captured.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

from testbed.agreed import RUN
from testbed.engine.api import Container, Engine
from testbed.errors import TestbedError, UsageError, writing
from testbed.evidence.wireshark import write_tables
from testbed.lab.inside import in_each, run_inside
from testbed.lab.session_keys import read_session_keys
from testbed.lab.state import ActualLab, node_facts

CHARON: Final = "charon"
"""The service of the nodes that do IPsec."""
_CONFIGURATION: Final = f"{RUN}/strongswan.conf"
_LEVELS: Final = "charon {\n filelog {\n  stderr {\n   ike = 4\n   chd = 4\n  }\n }\n}"
# Each capture has lines of its own, so that one that ends takes nothing from another.
_BEGIN: Final = f"""\
printf '# keys of %s\\n%s\\n# end of %s\\n' "$1" "$2" "$1" >>{_CONFIGURATION}
swanctl --reload-settings"""
_END: Final = f"""\
sed -i "/^# keys of $1\\$/,/^# end of $1\\$/d" {_CONFIGURATION}
swanctl --reload-settings"""
_WITHIN: Final = 10.0  # seconds for a command to charon
_RENEWED: Final = 5.0  # seconds until an association is renewed
_PAUSE: Final = 0.15  # seconds between two looks

Say = Callable[[str], None]

_IKE: Final = re.compile(r"\S+: #(\d+), (\w+), IKEv2, ([0-9a-f]{16})_i(\*?) ([0-9a-f]{16})_r\*?")
_CHILD: Final = re.compile(r"  \S+: #(\d+), reqid \d+, (\w+),")


@dataclass(frozen=True, slots=True)
class Association:
    """An IKE SA as `swanctl --list-sas` has it, with the numbers of its CHILD_SAs that are in use."""

    number: str
    spis: bytes
    """The initiator's, and the responder's behind it."""
    ours: bool
    """Whether this node is its initiator."""
    children: tuple[str, ...] = ()


def parse_associations(listing: str) -> list[Association]:
    """Read what `swanctl --list-sas` prints; SAs that are being made or taken down are left out."""
    found: list[Association] = []
    established = False
    for line in listing.splitlines():
        if match := _IKE.match(line):
            established = match[2] == "ESTABLISHED"
            if established:
                found.append(Association(match[1], bytes.fromhex(match[3] + match[5]), bool(match[4])))
        elif established and (match := _CHILD.match(line)) and match[2] == "INSTALLED":
            last = found.pop()
            found.append(Association(last.number, last.spis, last.ours, (*last.children, match[1])))
    return found


class Keys:
    """The keys that the nodes' charon logs; for `logged_keys` to make."""

    def __init__(self, engine: Engine, nodes: Mapping[str, Container]) -> None:
        self._engine = engine
        self._nodes = nodes
        self._spis: dict[str, dict[str, bytes]] = {name: {} for name in nodes}

    def renew(self, say: Say) -> None:
        """Have new keys made for every association; say so where that is not done in time."""

        def renew(name: str, container: Container) -> None:
            for one in self._associations(container):
                if one.ours and not self._renew(container, one):
                    say(f"{name}: its peer does not renew the keys; what they protect stays encrypted")

        in_each(self._nodes, renew)
        for name, associations in in_each(self._nodes, lambda _, each: self._associations(each)).items():
            self._spis[name] = {one.number: one.spis for one in associations}

    def write(self, folder: Path) -> int:
        """Write all that were logged so far as Wireshark's tables; return how many. Raises `TestbedError`."""
        found = read_session_keys(self._engine, self._nodes, self._spis)
        with writing(folder):
            write_tables(folder, found)
        return len(found)

    def _associations(self, container: Container) -> list[Association]:
        listing = run_inside(self._engine, container, ["swanctl", "--list-sas"], within=_WITHIN)
        return parse_associations(listing.text)

    def _renew(self, container: Container, old: Association) -> bool:
        """Renew the CHILD_SAs of an IKE SA, and then the SA itself, which takes them along."""
        for number in old.children:
            self._rekey(container, "--child-id", number)

        def in_use(found: list[Association]) -> set[str]:
            return {number for one in found for number in one.children}

        least = len(old.children)
        if not self._until(
            container, lambda now: len(in_use(now)) >= least and in_use(now).isdisjoint(old.children)
        ):
            return False
        self._rekey(container, "--ike-id", old.number)
        return self._until(container, lambda now: len(now) >= 1 and old.spis not in [one.spis for one in now])

    def _rekey(self, container: Container, which: str, number: str) -> None:
        run_inside(self._engine, container, ["swanctl", "--rekey", which, number], within=_WITHIN)

    def _until(self, container: Container, renewed: Callable[[list[Association]], bool]) -> bool:
        deadline = time.monotonic() + _RENEWED
        while time.monotonic() < deadline:
            if renewed(self._associations(container)):
                return True
            time.sleep(_PAUSE)
        return False


@contextmanager
def logged_keys(engine: Engine, lab: ActualLab, say: Say) -> Iterator[Keys]:
    """Have the charon of every node log its keys until the end, beginning with new ones.

    Raises `UsageError` where no node that runs has charon, `TestbedError` where one does not answer.
    """
    nodes = {
        name: container
        for name, container in lab.nodes.items()
        if container.state == "running" and CHARON in node_facts(container).services
    }
    if not nodes:
        raise UsageError(
            f"nothing to decrypt: no node of lab {lab.name} runs {CHARON}",
            hint="capture without --decrypt; in scenario-2.1 to 2.5 VPN clients and gateways do",
        )
    mark = uuid4().hex[:12]

    def change(script: str, name: str, container: Container) -> None:
        done = run_inside(engine, container, ["sh", "-c", script, "sh", mark, _LEVELS], within=_WITHIN)
        if done.code:
            raise TestbedError(
                f"{CHARON} of {name} does not take another level of its log: {done.complaint}",
                hint=f"testbed logs {lab.name} {name}",
            )

    keys = Keys(engine, nodes)
    try:
        in_each(nodes, lambda name, container: change(_BEGIN, name, container))
        keys.renew(say)
        yield keys
    finally:
        in_each(nodes, lambda name, container: change(_END, name, container))
