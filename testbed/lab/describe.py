"""What daemons say of themselves, in a few words for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from testbed.agreed import RELAY, ROAM
from testbed.document.functions import Function

State = Mapping[str, Any]
_SHOWN: Final = 8
"""Bindings of a home agent that a line has; those beyond are counted."""


def describe(service: str, state: State | None) -> str:
    """Return a line on the state of a service; empty for a service without words here."""
    if state is None:
        return "does not answer"
    if state.get("failed"):
        return "cut by testbed fail; testbed heal mends it"
    words = _WORDS.get(service) or _WORDS.get(str(state.get("role")))  # a further daemon of a kind has a name
    return words(state) if words else ""


def mobile_node(state: State) -> str:
    """Where a mobile node is and what it has there, as its connection manager reports it."""
    if state.get("moving"):
        return f"on its way to {state.get('network')}"
    if not state.get("network"):
        return "attached to no network"
    words = [f"{state.get('state')} on {state['network']}"]
    if state.get("address"):
        words.append(f"address {state['address']} ({state.get('how')})")
    if state.get("agent"):
        words.append(f"agent {state['agent']}")
    ipsec = state.get("ipsec") or {}
    if ipsec.get("up"):
        words.append("ESP up" + (f" with inner address {ipsec['inner']}" if ipsec.get("inner") else ""))
    text = ", ".join(words)
    return f"{text}: {state['detail']}" if state.get("detail") else text


def _registration(state: State) -> str:
    words = [str(state.get("state"))]
    words += [f"care-of {state['care_of']}"] if state.get("care_of") else []
    words += [f"still at {address}" for address in state.get("former_care_of", ())]
    return ", ".join(words) + _left(state)


def _name(mobile_node: State) -> str:
    nai = mobile_node.get("nai")
    return f"{mobile_node['home_address']} ({nai})" if nai else str(mobile_node["home_address"])


def _bindings(state: State) -> str:
    found = state.get("bindings", ())
    bindings = [
        f"{_name(each)} at {', '.join(each['care_of_addresses'])}{_left(each)}" for each in found[:_SHOWN]
    ]
    more = state.get("mobile_nodes", len(found)) - len(bindings)
    return "; ".join([*bindings, *([f"{more} more"] if more else [])]) or "no binding"


def _visitors(state: State) -> str:
    several = len(state.get("links", ())) > 1
    visitors = [
        f"{_name(each)}{' on ' + each['interface'] if several else ''}{_left(each)}"
        for each in state.get("visitors", ())
    ]
    return f"visited by {'; '.join(visitors)}" if visitors else "no visitor"


def _crowd(state: State) -> str:
    there = ", ".join(
        f"{network['registered']} of {network['attached']} on {name}"
        for name, network in state.get("networks", {}).items()
        if network["attached"]
    )
    return f"{state.get('registered')} of {state.get('nodes')} registered" + (f" ({there})" if there else "")


def _link(state: State) -> str:
    if not state.get("active"):
        return f"{state.get('interface')} as it is"
    parts = [
        f"{word} {state[key]:g}{unit}"
        for key, word, unit in (
            ("delay_ms", "delay", " ms"),
            ("jitter_ms", "jitter", " ms"),
            ("loss", "loss", " %"),
            ("rate", "rate", " bit/s"),
        )
        if state.get(key)
    ]
    return f"{state.get('interface')}: {', '.join(parts)}"


def _left(state: State) -> str:
    left = state.get("lifetime_left")
    return f" ({left:.0f} s left)" if isinstance(left, int | float) else ""


_WORDS: Final[Mapping[str, Callable[[State], str]]] = {
    ROAM: mobile_node,
    Function.MOBILE_NODE: _registration,
    Function.HOME_AGENT: _bindings,
    Function.FOREIGN_AGENT: _visitors,
    Function.BULK_NODES: _crowd,
    RELAY: _link,
}
