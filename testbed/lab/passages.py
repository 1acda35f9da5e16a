"""What several taps of one wire see, put together: one passage of one packet over one network.

The sender's tap has a packet first, those of all who receive it microseconds later by the clock that the
nodes of one machine share. Their copies come here in any order, as each tcpdump hands its packets over when
it can. A packet that crosses the hub of a network passes over that network twice, and that is two passages.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from testbed.packet.decode import link
from testbed.packet.pcap import Frame, packet_mark

_REMEMBERED: Final = 2.0
"""Seconds in which a copy still belongs to a passage; a busy machine hands packets over late."""
_TOLERANCE: Final = 1000
"""Nanoseconds by which a copy may be stamped before its original: tcpdump counts in microseconds."""


@dataclass(slots=True, eq=False)
class Passage:
    """A packet on a network, or on a tunnel of one node: who sent it, and who received it there."""

    frame: Frame
    """The copy that came first; its `interface` is the network's name, or NODE/TUNNEL."""
    sender: str | None = None
    """The node that sent it; None where no tap saw it leave."""
    receivers: list[str] = field(default_factory=list)
    tunnel: bool = False

    @property
    def seen(self) -> str:
        """Where it was seen, for people: `hotel mn→hotel-router`; of a tunnel `mn/ipsec0`."""
        if self.tunnel:
            return self.frame.interface
        return f"{self.frame.interface} {self.sender or '?'}→{','.join(self.receivers) or 'nobody'}"


class Passages:
    """Sorts copies into passages. `networks` are those of the lab; every other interface is a node's own."""

    def __init__(self, networks: frozenset[str]) -> None:
        self._networks = networks
        self._recent: dict[tuple[str, str], list[Passage]] = {}
        self._latest = 0

    def add(self, frame: Frame) -> Passage | None:
        """Take a copy, whose interface is NODE/INTERFACE. Return its passage where it is the first of it."""
        node, _, interface = frame.interface.partition("/")
        header = link(frame)
        outgoing = header is not None and header.outgoing is True
        tunnel = interface not in self._networks
        place = frame.interface if tunnel else interface
        packet = frame.data[header.size :] if header else frame.data
        known = self._recent.setdefault((place, packet_mark(packet)), [])
        known[:] = [one for one in known if abs(one.frame.time - frame.time) < _REMEMBERED * 1e9]
        found = _left(known, frame, node) if outgoing else _arrived(known, frame, node)
        if found is not None:
            if outgoing:
                found.sender = node  # whose copy came late: the place in the order of time stays
            elif not tunnel:
                found.receivers.append(node)
            return None
        passage = Passage(replace(frame, interface=place), tunnel=tunnel)
        if outgoing:
            passage.sender = node
        else:
            passage.receivers.append(node)
        known.append(passage)
        self._forget(frame.time)
        return passage

    def _forget(self, now: int) -> None:
        """Drop what is too old, once in a while: a capture may run for days."""
        if now - self._latest < _REMEMBERED * 1e9:
            return
        self._latest = now
        old = now - 2 * _REMEMBERED * 1e9
        self._recent = {key: those for key, those in self._recent.items() if those[-1].frame.time > old}


def _left(known: list[Passage], frame: Frame, node: str) -> Passage | None:
    """The passage that a packet began by leaving a node, where copies of it came here before it."""
    fits = (
        one
        for one in known
        if one.sender is None and node not in one.receivers and frame.time <= one.frame.time + _TOLERANCE
    )
    return min(fits, key=lambda one: one.frame.time, default=None)


def _arrived(known: list[Passage], frame: Frame, node: str) -> Passage | None:
    """The passage that a packet which reached a node ended: the latest that began before that."""
    fits = (
        one
        for one in known
        if node != one.sender
        and node not in one.receivers
        and (one.sender is None or one.frame.time <= frame.time + _TOLERANCE)
    )
    return max(fits, key=lambda one: one.frame.time, default=None)
