"""What the right answer to a question is, read in the lab, and whether a learner's answer is it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Any

from testbed.document.marks import Path
from testbed.errors import StepError
from testbed.lesson.bench import Bench
from testbed.lesson.fields import read_field
from testbed.lesson.model import Answer, EventField, From, Output, PacketCount, PacketField, StateField
from testbed.packet.decode import decode
from testbed.topology.loaded import LoadedTopology
from testbed.topology.names import topology_names

_NUMBER = re.compile(r"\s*([-+]?\d+(?:[.,]\d+)?)\s*(\S*)\s*")


def right_answer(bench: Bench, answer: Answer, where: Path) -> str:
    """The answer as it is in the lab now, as a learner would write it. Raises `StepError`."""
    found = _read(bench, answer.source, where)
    if answer.kind == "node":
        return _node(found, bench.facts)
    if answer.kind == "network":
        return _network(found, bench.facts)
    if answer.kind == "number":
        number = _number(found, None)
        if number is None:
            raise StepError(f"the lab gives no number for this question: {found}")
        return f"{number:g}"
    return found


def is_right(given: str, right: str, answer: Answer, topology: LoadedTopology) -> bool:
    """Whether a learner's answer is the right one, within what the question tolerates."""
    given = given.strip()
    match answer.kind:
        case "number":
            number = _number(given, answer.unit)
            return number is not None and abs(number - float(right)) <= _tolerated(answer, float(right))
        case "node":
            return _node(given, topology) == right
        case "network":
            return _network(given, topology) == right
        case "address":
            return _address(given) == _address(right)
        case _:
            return _word(given) == _word(right)


def in_kind(given: str, answer: Answer, topology: LoadedTopology) -> str | None:
    """What is wrong with an answer before it is compared; None where it is of the kind asked for."""
    match answer.kind:
        case "number" if _number(given, answer.unit) is None:
            unit = f" in {answer.unit}" if answer.unit else ""
            return f"{given} is not a number{unit}"
        case "node" if _node(given, topology) not in topology.nodes:
            return f"{given} is no node of this lab; the nodes are {', '.join(topology.nodes)}"
        case "network" if _network(given, topology) not in topology.networks:
            return f"{given} is no network of this lab; the networks are {', '.join(topology.networks)}"
        case "address" if _address(given) is None:
            return f"{given} is not an IPv4 address"
        case "word" if answer.choices and given.casefold() not in map(str.casefold, answer.choices):
            return f"{given} is none of {', '.join(answer.choices)}"
    return None


def _read(bench: Bench, source: From, where: Path) -> str:
    reading = source.reading
    if reading is None:
        return str(source.value)
    if isinstance(reading, PacketCount):
        return _from_packets(bench, reading, where)
    with bench.after(reading.steps, where):
        match reading:
            case EventField():
                return _event(bench, reading)
            case StateField():
                state = bench.access.state(reading.node, reading.service)
                return _inside(state, reading.field, f"the state of {reading.service}")
            case Output():
                return _output(bench, reading)
    raise AssertionError(reading)


def _from_packets(bench: Bench, reading: PacketCount, where: Path) -> str:
    frames, linktype = bench.captured(reading.steps, reading.at, reading.filter, where)
    if not isinstance(reading, PacketField):
        return str(len(frames))
    if not frames:
        raise StepError(f"no packet at {reading.at} matches {reading.filter!r}")
    frame = frames[0] if reading.which == "first" else frames[-1]
    return read_field(decode(frame.data, linktype, frame.length), reading.field)


def _event(bench: Bench, reading: EventField) -> str:
    found = [one for one in bench.access.log.since(0) if (one.node, one.name) == (reading.node, reading.name)]
    if not found:
        raise StepError(f"{reading.node} has reported no {reading.name} since this task began")
    return _inside(found[-1].fields, reading.field, f"the event {reading.name}")


def _output(bench: Bench, reading: Output) -> str:
    done = bench.access.execute(reading.node, ["sh", "-c", reading.command], within=30)
    text = done.text.strip()
    if reading.match is None:
        return text
    found = re.search(reading.match, text, re.MULTILINE)
    if found is None:
        raise StepError(f"{reading.command!r} in {reading.node} prints nothing that this question asks for")
    return found[1] if found.re.groups else found[0]


def _inside(value: Any, field: str, what: str) -> str:
    """The value at a path with dots."""
    for part in field.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            raise StepError(f"{what} has no {field} now")
    if value is None:
        raise StepError(f"{what} has no {field} now")
    return str(value)


def _number(text: str, unit: str | None) -> float | None:
    found = _NUMBER.fullmatch(text)
    if found is None or found[2] not in ("", unit or ""):
        return None
    return float(found[1].replace(",", "."))


def _tolerated(answer: Answer, right: float) -> float:
    if isinstance(answer.tolerance, str):
        return abs(right) * float(answer.tolerance.rstrip("%")) / 100
    return answer.tolerance


def _address(text: str) -> IPv4Address | None:
    try:
        return IPv4Address(text.strip().split("/")[0])
    except ValueError:
        return None


def _word(text: str) -> str:
    """A word without its case, and without the `0x` that tcpdump prints in front of hexadecimal digits."""
    return text.strip().casefold().removeprefix("0x")


def _node(text: str, topology: LoadedTopology) -> str:
    """A node by its name or one of its addresses."""
    address = _address(text)
    if address is None:
        return text.strip().casefold().split("@")[0].split("/")[0]
    return topology_names(topology)(address).split("@")[0].split("/")[0]


def _network(text: str, topology: LoadedTopology) -> str:
    """A network by its name, or by an address that is on it."""
    address = _address(text)
    if address is None:
        return text.strip().casefold()
    return next((name for name, one in topology.networks.items() if address in one.subnet), text)
