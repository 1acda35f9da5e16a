"""The scalar values of a topology file: durations, rates, percentages, addresses, prefixes, ranges, names.

Each `parse_*` takes what YAML gave and returns the typed value, or raises `Expected` with a text that says
what was expected (the caller adds where and what was found).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_NUMBER = r"(\d+(?:\.\d+)?)"
_DURATION = re.compile(rf"{_NUMBER} ?(us|ms|s|min|h)", re.ASCII)
_RATE = re.compile(rf"{_NUMBER} ?([kmg]?bit)(?:/s)?", re.IGNORECASE | re.ASCII)
_PERCENT = re.compile(rf"{_NUMBER} ?%", re.ASCII)
_NAME = re.compile(r"[a-z][a-z0-9-]*")
_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "min": 60_000.0, "h": 3_600_000.0}
_BITS = {"bit": 1, "kbit": 1_000, "mbit": 1_000_000, "gbit": 1_000_000_000}

LONGEST_DURATION = 24 * _MS["h"]
LONGEST_DELAY = _MS["min"]
HIGHEST_RATE = 100 * _BITS["gbit"]

NAME_LENGTH = 15
"""A network's name becomes an interface name, for which Linux has room for 15 characters."""

LABEL_LENGTH = 40

_NOT_UNICAST = [IPv4Network(one) for one in ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4")]


class Expected(ValueError):
    """A value is not what was expected: `expected` completes "expected …"; `hint` says what to write."""

    def __init__(self, expected: str, hint: str | None = None) -> None:
        super().__init__(expected)
        self.expected = expected
        self.hint = hint


@dataclass(frozen=True, slots=True)
class AddressRange:
    """An inclusive range of IPv4 addresses, written `198.51.100.70-198.51.100.120`."""

    first: IPv4Address
    last: IPv4Address

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    def __iter__(self) -> Iterator[IPv4Address]:
        return map(IPv4Address, range(int(self.first), int(self.last) + 1))

    def __len__(self) -> int:
        return int(self.last) - int(self.first) + 1

    def __contains__(self, address: IPv4Address) -> bool:
        return self.first <= address <= self.last


@dataclass(frozen=True, slots=True)
class PartOfCrowd:
    """Some mobile nodes of a crowd: a share, from the first node on, or those with the home addresses."""

    share: float | None = None
    """Percent."""
    homes: AddressRange | None = None

    def __str__(self) -> str:
        return str(self.homes) if self.homes is not None else f"{self.share:g}%"

    @property
    def request(self) -> dict[str, Any]:
        """What a request to the crowd says."""
        if self.homes is not None:
            return {"homes": [str(self.homes.first), str(self.homes.last)]}
        return {"share": (self.share or 0.0) / 100}


def crowd_request(part: PartOfCrowd | None, within: float) -> dict[str, Any]:
    """What a request for a move of a crowd says of its part and its time in seconds."""
    return {**(part.request if part is not None else {}), "within": within}


def parse_duration(value: Any) -> float:
    """A span of time with its unit (`40ms`, `1.5s`, `10min`) in milliseconds; a bare 0 needs no unit."""
    ms = _milliseconds(value)
    if ms > LONGEST_DURATION:
        raise Expected(f"a duration of at most {format_duration(LONGEST_DURATION)}")
    return ms


def duration(seconds: float) -> str:
    """A time for people: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def parse_delay(value: Any) -> float:
    """How long a packet may wait on a link, a minute at most, as a duration in milliseconds."""
    ms = _milliseconds(value)
    if ms > LONGEST_DELAY:
        raise Expected(f"a delay of at most {format_duration(LONGEST_DELAY)}")
    return ms


def _milliseconds(value: Any) -> float:
    if _is_zero(value):
        return 0.0
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match:
        return float(match[1]) * _MS[match[2]]
    hint = None
    if _is_number(value):
        hint = f"add a unit: {value}ms or {value}s"
    elif isinstance(value, str):
        clock = re.fullmatch(r"(\d{1,4}):(\d\d)", value, re.ASCII)
        hint = (
            f"write {int(clock[1]) * 60 + int(clock[2])}s" if clock else "the units are us, ms, s, min and h"
        )
    raise Expected("a duration such as 40ms, 1.5s or 10min", hint)


def parse_rate(value: Any) -> int:
    """A data rate with its unit (`10mbit`, `512kbit`) in bit/s."""
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    # Compared before it is rounded: thousands of digits are infinitely many bits.
    if match and 0.5 < (bits := float(match[1]) * _BITS[match[2].lower()]) <= HIGHEST_RATE:
        return round(bits)
    if match and bits > HIGHEST_RATE:
        raise Expected(f"a data rate of at most {format_rate(HIGHEST_RATE)}", "leave it out for no limit")
    hint = f"add a unit: {value}mbit or {value}kbit" if _is_number(value) and value else None
    raise Expected("a data rate above zero such as 10mbit or 512kbit", hint)


def parse_percent(value: Any) -> float:
    """A share of packets (`1%`, `0.5%`) in percent; a bare 0 needs no unit."""
    if _is_zero(value):
        return 0.0
    match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if match and float(match[1]) <= 100:
        return float(match[1])
    hint = f"write {value}%" if _is_number(value) and 0 <= value <= 100 else None
    raise Expected("a percentage from 0% to 100%, such as 1%", hint)


def parse_address(value: Any) -> IPv4Address:
    """An IPv4 address in dotted decimal notation."""
    if isinstance(value, IPv4Address):
        return value
    hint = None
    if isinstance(value, str):
        if "/" in value:
            hint = f"write it without the prefix length: {value.partition('/')[0]}"
        elif re.fullmatch(r"(\d{1,9}\.){3}\d{1,9}", value, re.ASCII):
            try:
                return IPv4Address(value)
            except ValueError:
                plain = ".".join(str(int(octet)) for octet in value.split("."))
                hint = f"without leading zeros: {plain}" if plain != value else "each part is at most 255"
    raise Expected("an IPv4 address such as 192.0.2.1", hint)


def parse_prefix(value: Any) -> IPv4Network:
    """An IPv4 prefix (`192.0.2.0/24`) whose host bits are zero."""
    if isinstance(value, IPv4Network):
        return value
    hint = None
    if isinstance(value, str) and "/" in value:
        try:
            network = IPv4Network(value)
            if str(network) == value:
                return network
            hint = f"write {network}"  # a netmask, or zeros in front
        except ValueError:
            try:
                hint = f"{value} has host bits set: its network is {IPv4Network(value, strict=False)}"
            except ValueError:
                hint = None
    elif isinstance(value, str):
        hint = "add the prefix length, such as /24"
    raise Expected("an IPv4 prefix such as 192.0.2.0/24", hint)


def not_unicast(prefix: IPv4Network) -> IPv4Network | None:
    """The prefix that no host has an address of (RFC 6890, RFC 5771) and that this one overlaps."""
    return next((other for other in _NOT_UNICAST if prefix.overlaps(other)), None)


def parse_route_prefix(value: Any) -> IPv4Network:
    """The destination of a route: an IPv4 prefix or the word `default`."""
    return IPv4Network("0.0.0.0/0") if value == "default" else parse_prefix(value)


def parse_range(value: Any) -> AddressRange:
    """Two IPv4 addresses with a hyphen between them, the first not above the last."""
    if isinstance(value, AddressRange):
        return value
    if isinstance(value, str) and value.count("-") == 1:
        try:
            first, last = (IPv4Address(part.strip()) for part in value.split("-"))
        except ValueError:
            pass
        else:
            if first <= last:
                return AddressRange(first, last)
            raise Expected(
                "an address range whose first address is not above its last", f"write {last}-{first}"
            )
    raise Expected("an address range such as 192.0.2.10-192.0.2.20")


def parse_part(value: Any) -> PartOfCrowd:
    """Some mobile nodes of a crowd: a share of them (`25%`), a home address, or a range of home addresses."""
    if isinstance(value, PartOfCrowd):
        return value
    try:
        if isinstance(value, str) and "%" in value and (share := parse_percent(value)) > 0:
            return PartOfCrowd(share=share)
        if isinstance(value, str) and "-" in value:
            return PartOfCrowd(homes=parse_range(value))
        address = parse_address(value)
    except Expected as error:
        hint = error.hint
    else:
        return PartOfCrowd(homes=AddressRange(address, address))
    raise Expected("a share such as 25%, a home address, or a range such as 10.64.0.10-10.64.0.19", hint)


def parse_name(value: Any) -> str:
    """The name of a network, node, role, option or setting: lower-case letters, digits and hyphens."""
    if isinstance(value, str) and _NAME.fullmatch(value) and len(value) <= NAME_LENGTH:
        return value
    hint = None
    if isinstance(value, str) and not value[:1].isdigit():
        tidy = re.sub(r"[^a-z0-9-]+", "-", value.lower()).strip("-")[:NAME_LENGTH].rstrip("-")
        hint = f"for example {tidy}" if tidy else None
    raise Expected(
        f"a name of lower-case letters, digits and hyphens, a letter first, at most {NAME_LENGTH} characters",
        hint,
    )


def parse_label(value: Any) -> str:
    """A name that no interface is called after, such as a trial's: lower-case letters, digits and hyphens."""
    if isinstance(value, str) and _NAME.fullmatch(value) and len(value) <= LABEL_LENGTH:
        return value
    raise Expected(
        f"a name of lower-case letters, digits and hyphens, a letter first, at most {LABEL_LENGTH} characters"
    )


def format_duration(ms: float) -> str:
    """A duration in the largest unit that needs no rounding: `40ms`, `1.5s`, `10min`."""
    for unit in ("h", "min", "s"):
        if ms and ms % _MS[unit] == 0:
            return f"{ms / _MS[unit]:.12g}{unit}"
    return f"{ms / 1000:.12g}s" if ms >= 1000 else f"{ms:.12g}ms"


def format_rate(bits: int) -> str:
    """A rate in the largest unit that needs no rounding: `10mbit`."""
    unit = next(unit for unit in ("gbit", "mbit", "kbit", "bit") if bits % _BITS[unit] == 0)
    return f"{bits // _BITS[unit]}{unit}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_zero(value: Any) -> bool:
    return _is_number(value) and value == 0


def _schema(pattern: str, example: str, **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": [example], **more})


def _or_zero(pattern: str, example: str) -> WithJsonSchema:
    return WithJsonSchema(
        {"anyOf": [{"type": "string", "pattern": pattern}, {"const": 0}], "examples": [example]}
    )


ADDRESS_PATTERN = r"(\d{1,3}\.){3}\d{1,3}"
DURATION_PATTERN = r"^\d+(\.\d+)? ?(us|ms|s|min|h)$"

Duration = Annotated[float, BeforeValidator(parse_duration), _or_zero(DURATION_PATTERN, "40ms")]
Delay = Annotated[float, BeforeValidator(parse_delay), _or_zero(DURATION_PATTERN, "40ms")]
Rate = Annotated[
    int, BeforeValidator(parse_rate), _schema(r"^\d+(\.\d+)? ?([kKmMgG]?[bB][iI][tT])(/s)?$", "10mbit")
]
Percent = Annotated[float, BeforeValidator(parse_percent), _or_zero(r"^\d+(\.\d+)? ?%$", "1%")]
Address = Annotated[IPv4Address, BeforeValidator(parse_address), _schema(f"^{ADDRESS_PATTERN}$", "192.0.2.1")]
Prefix = Annotated[
    IPv4Network, BeforeValidator(parse_prefix), _schema(rf"^{ADDRESS_PATTERN}/\d{{1,2}}$", "192.0.2.0/24")
]
RoutePrefix = Annotated[
    IPv4Network,
    BeforeValidator(parse_route_prefix),
    _schema(rf"^(default|{ADDRESS_PATTERN}/\d{{1,2}})$", "default"),
]
CrowdPart = Annotated[
    PartOfCrowd,
    BeforeValidator(parse_part),
    PlainSerializer(str, return_type=str),
    _schema(rf"^(\d+(\.\d+)? ?%|{ADDRESS_PATTERN}(-{ADDRESS_PATTERN})?)$", "25%"),
]
Name = Annotated[
    str, BeforeValidator(parse_name), _schema(r"^[a-z][a-z0-9-]*$", "hotel", maxLength=NAME_LENGTH)
]
Label = Annotated[
    str,
    BeforeValidator(parse_label),
    _schema(r"^[a-z][a-z0-9-]*$", "registers-through-fa", maxLength=LABEL_LENGTH),
]
