"""Steps and expectations in words, for evidence and for people."""

from __future__ import annotations

from typing import Any

from testbed.claim.expectations import (
    Accepted,
    After,
    Binding,
    Clear,
    Counter,
    Daemons,
    EspSas,
    Event,
    Expectation,
    Heard,
    Hops,
    Ike,
    MobileNodeState,
    Packets,
    Path,
    Perimeter,
    ProbeResult,
    Refused,
    SessionState,
    Unreachable,
    Visitor,
)
from testbed.claim.steps import Step
from testbed.document.part import Part
from testbed.document.values import format_duration


def expectation_text(expectation: Expectation) -> str:
    """What is expected, as a line: `esp at mn/airport: at least 1`."""
    text = _part_text(expectation.part)
    return text + (f", within {format_duration(expectation.within)}" if expectation.within else "")


def _part_text(part: Part) -> str:
    match part:
        case Packets():
            contains = f" containing {part.contains!r}" if part.contains else ""
            packets = f"packets at {_list(part.at)} matching {part.filter!r}{contains}"
            return f"{packets}{_after(part.after)}: {part.wanted}"
        case Clear():
            return f"payload readable at {_list(part.at)}{_after(part.after)}: {part.wanted}"
        case Ike():
            return f"{part.exchange} exchanges at {_list(part.at)}: {part.wanted}"
        case EspSas():
            return f"ESP security associations in use at {_list(part.at)}: {part.wanted}"
        case Binding():
            where = f" with a care-of address in {part.care_of}" if part.care_of else ""
            return f"{'a' if part.present else 'no'} binding at {part.agent or 'the home agent'}{where}"
        case Visitor():
            return f"{'a' if part.present else 'no'} visitor at {part.agent}"
        case Counter():
            return f"counter {part.name} of {part.node} grew by: {part.wanted}"
        case MobileNodeState():
            who = part.node or "the mobile node"
            return f"{who} is {part.state}" + (f", {part.attachment}" if part.attachment else "")
        case Heard():
            return f"advertisements of {part.agent} are {'heard' if part.present else 'not heard'}"
        case Event():
            having = "".join(f", {key} {value}" for key, value in part.having.items())
            source = f"/{part.source}" if part.source else ""
            return f"events {part.name} of {part.node}{source}{having}: {part.wanted}"
        case Daemons():
            return f"{' and '.join(part.running)} run on {part.node}"
        case Perimeter():
            wanted = [f"gateways that answer IKE: {part.gateways.wanted}"] if part.gateways else []
            wanted += [f"IKE SAs established: {part.associations.wanted}"] if part.associations else []
            return f"perimeter from {part.from_}: {', '.join(wanted)}"
        case Refused():
            return f"the topology with {_list(part.set)} is refused because {part.because!r}"
        case Accepted():
            return f"the topology with {_list(part.set)} is accepted"
        case ProbeResult():
            wanted = [f"lost {part.lost.wanted}"] if part.lost else []
            wanted += [f"no outage over {format_duration(part.outage)}"] if part.outage else []
            wanted += [f"an outage of {format_duration(part.silent)} or more"] if part.silent else []
            return "probe: " + (", ".join(wanted) or "reported")
        case SessionState():
            return f"the TCP session is {part.state}"
        case Hops():
            through = f" through {_list(part.through)}" if part.through else ""
            past = f" not through {_list(part.not_through)}" if part.not_through else ""
            return f"the way from {part.from_} to {part.to} goes{through}{past}"
        case Path():
            source = f" (from {part.source})" if part.source else ""
            negation = "not " if isinstance(part, Unreachable) else ""
            return f"{part.to} is {negation}reached from {part.from_}{source}"
    raise AssertionError(type(part))  # pragma: no cover


def _after(after: After | None) -> str:
    if after is None:
        return ""
    later = f"more than {format_duration(after.by)} " if after.by else ""
    return f", {later}after the last at {_list(after.at)} matching {after.filter!r}"


def step_text(step: Step) -> str:
    """What is done, as a line: `move to airport, hotel, 2 times`."""
    part = step.part
    if step.wait_until:
        return f"wait until {expectation_text(step.wait_until)}"
    if step.expect:
        return f"expect {expectation_text(step.expect)}"
    if step.move:
        times = f", {step.move.times} times" if step.move.times > 1 else ""
        who = f" of {step.move.node}" if step.move.node else ""
        return f"move{who} to {', '.join(step.move.to)}{times}"
    given: dict[str, Any] = part.model_dump(by_alias=True, exclude_defaults=True, mode="json")
    given |= {key: format_duration(given[key]) for key in ("within", "every") if key in given}
    if len(given) == 1:
        value = next(iter(given.values()))
        return f"{step.word} {', '.join(value) if isinstance(value, list) else value}"
    return f"{step.word} " + ", ".join(f"{key} {value}" for key, value in given.items())


def _list(names: list[str]) -> str:
    return ", ".join(names)
