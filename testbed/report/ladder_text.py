"""A message ladder as text: a row a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from testbed.report.ladder import Header, Ladder, Row

STYLES: Final = {
    "ip": "",
    "inner": "bold cyan",
    "arp": "dim",
    "udp": "dim",
    "tcp": "blue",
    "icmp": "green",
    "icmp-error": "red",
    "esp": "bold magenta",
    "ike": "bold blue",
    "mobileip": "bold yellow",
    "dhcp": "yellow",
    "malformed": "red",
}
"""Kind of a header → how terminals show it; `inner` is an IP header inside another."""


def ladder_lines(ladder: Ladder, seconds: float | None = None) -> Iterator[str]:
    """Its rows, or those of the last so many seconds; times in seconds since the ladder's beginning."""
    last = max((row.until for row in ladder.rows), default=0.0)
    rows = [row for row in ladder.rows if seconds is None or row.until >= last - seconds]
    pad = max((len(_who(row)) for row in rows), default=0)
    for row in rows:
        yield f"{row.time:8.3f}  {_who(row):{pad}}  {_what(row)}".rstrip()
    for file, why in ladder.unreadable.items():
        yield f"{file} cannot be read: {why}"


def _who(row: Row) -> str:
    if row.what == "message":
        return f"{row.sender} → {row.receiver or '*'}"
    return row.sender or row.what


def _what(row: Row) -> str:
    if row.what == "step":
        return f"{row.text}: {row.result}" if row.result else row.text
    headers = " | ".join(_texts(row.headers))
    if row.what == "event":
        return f"{row.text}  {headers}"
    times = f"{row.count} × in {row.until - row.time:.1f} s: " if row.count > 1 else ""
    lost = f"  (lost: {row.missing})" if row.missing else ""
    return f"{times}{headers}{lost}"


def _texts(header: Header | None) -> Iterator[str]:
    while header:
        yield header.text
        header = header.inside
