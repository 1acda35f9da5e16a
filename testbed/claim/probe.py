"""What the numbered probe saw: losses, outages, round trips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

from typing_extensions import TypedDict


@dataclass(frozen=True, slots=True)
class Outage:
    """A gap in what came back, in seconds of the sender's monotonic clock."""

    began: float  # the last packet before it came back
    ended: float | None  # the first one after it; None: nothing came back any more
    lost: int

    @property
    def ms(self) -> float | None:
        """How long it lasted."""
        return None if self.ended is None else (self.ended - self.began) * 1000


class ProbeRows(TypedDict):
    """A report of the probe as JSON: number of a packet, then nanoseconds."""

    every: float
    sent: list[tuple[int, int, bool]]
    reflected: list[tuple[int, int]]
    returned: list[tuple[int, int]]


@dataclass
class ProbeReport:
    """What the probe saw: nanoseconds of the monotonic clock by packet number."""

    every: float  # seconds between packets
    sent: dict[int, int] = field(default_factory=dict)
    unsendable: set[int] = field(default_factory=set)  # the sender had no route
    reflected: dict[int, int] = field(default_factory=dict)
    returned: dict[int, int] = field(default_factory=dict)

    @classmethod
    def read(
        cls, every: float, sender: Sequence[Mapping[str, Any]], reflector: Sequence[Mapping[str, Any]]
    ) -> ProbeReport:
        """Put together what both ends printed."""
        report = cls(every)
        for message in [*sender, *reflector]:
            rows = message.get("rows", ())
            match message.get("event"):
                case "sent":
                    report.sent |= {row[0]: row[1] for row in rows}
                    report.unsendable |= {row[0] for row in rows if len(row) > 2}
                case "reflected":
                    report.reflected |= {row[0]: row[1] for row in rows}
                case "returned":
                    report.returned |= {row[0]: row[1] for row in rows}
        return report

    def to_json(self) -> dict[str, Any]:
        """The report as rows of JSON, and `from_json` reads it again: number, then nanoseconds."""
        return {
            "every": self.every,
            "sent": [[number, stamp, number not in self.unsendable] for number, stamp in self.sent.items()],
            "reflected": [list(row) for row in self.reflected.items()],
            "returned": [list(row) for row in self.returned.items()],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ProbeReport:
        """What `to_json` made a report into."""
        return cls(
            data["every"],
            {number: stamp for number, stamp, _ in data["sent"]},
            {number for number, _, sendable in data["sent"] if not sendable},
            dict(data["reflected"]),
            dict(data["returned"]),
        )

    @property
    def lost(self) -> int:
        """Packets that did not come back."""
        return len(self.sent.keys() - self.returned.keys())

    @property
    def lost_there(self) -> int:
        """Packets that did not reach the correspondent node."""
        return len(self.sent.keys() - self.reflected.keys())

    @property
    def lost_back(self) -> int:
        """Packets that reached the correspondent node and were lost on their way back."""
        return len(self.reflected.keys() - self.returned.keys())

    @property
    def late(self) -> float:
        """How late the sender's timer was in ms, at most."""
        stamps = sorted(self.sent.values())
        gaps = [after - before for before, after in pairwise(stamps)]
        return max(0.0, max(gaps, default=0) / 1e6 - self.every * 1000)

    def outages(self) -> list[Outage]:
        """Every gap of lost packets, in order of time."""
        gaps: list[Outage] = []
        last: float | None = None
        missing = 0
        for number in sorted(self.sent):
            if number not in self.returned:
                missing += 1
                continue
            now = self.returned[number] / 1e9
            if missing:
                gaps.append(
                    Outage(last if last is not None else self.sent[min(self.sent)] / 1e9, now, missing)
                )
            last, missing = now, 0
        if missing and self.sent:
            began = last if last is not None else self.sent[min(self.sent)] / 1e9
            gaps.append(Outage(began, None, missing))
        return gaps

    def round_trips(self, began: float, ended: float) -> list[float]:
        """How long each packet took that was sent in this time (monotonic seconds) and came back, in ms."""
        return [
            (self.returned[number] - sent) / 1e6
            for number, sent in self.sent.items()
            if began <= sent / 1e9 < ended and number in self.returned
        ]

    def longest(self) -> float:
        """The longest outage in ms; one that did not end counts until the last packet was sent."""
        end = max(self.sent.values(), default=0) / 1e9
        return max((one.ms or (end - one.began) * 1000 for one in self.outages()), default=0.0)

    def __str__(self) -> str:
        outages = self.outages()
        spans = ", ".join(f"{one.ms:.0f} ms" if one.ms is not None else "never ended" for one in outages[:12])
        text = f"{len(self.sent)} sent, {self.lost} lost ({self.lost_there} there, {self.lost_back} back)"
        if not outages:
            return f"{text}; no outage"
        ended = [one.ms for one in outages if one.ms is not None]
        middle = f", median {median(ended):.0f} ms" if len(ended) > 1 else ""
        return f"{text}; {len(outages)} outage{'s' * (len(outages) > 1)}{middle}: {spans}"
