"""Why a mobile node did not get as far as its stack demands, in the field's words, and where to look.

The connection manager says it in codes (`testbed.node.roam`: `ike-timeout`, `registration-failed: …`), which
JSON output keeps. Here is the one table that turns them into sentences.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from testbed.lab.status import LabStatus

State = Mapping[str, Any]

_CAPTURE: Final = "testbed capture {lab} {node}/{network}"
_LOGS: Final = "testbed logs {lab} {node}"


@dataclass(frozen=True, slots=True)
class _Row:
    """A code of the connection manager, what it means, and the command that shows more."""

    code: str
    """A regular expression; its groups are for the sentence."""
    sentence: str
    command: str = _CAPTURE


_ROWS: Final = (
    _Row(
        "no-address: no DHCP server answered",
        "no DHCP server answered {address}, and the VPN needs an address (RFC 2131 §4.4.1)",
    ),
    _Row(
        "no-address.*",
        "no DHCP server and no foreign agent answered {address} (RFC 2131 §4.4.1, RFC 5944 §2.4)",
    ),
    _Row("ike-timeout", "{gateway} did not answer IKE {ike} ({silence})"),
    _Row(
        "outside: registration-timeout",
        "the home agent outside did not reply {registration} (RFC 5265 §3.3, RFC 5944 §3.6.3)",
    ),
    _Row(
        "outside: (?P<what>.*)",
        "the home agent outside did not register the mobile node: {what} (RFC 5265 §3.3)",
    ),
    _Row("mobike-timeout", "{gateway} did not answer MOBIKE {ike} (RFC 4555 §3.5)"),
    _Row("ike-failed: charon: (?P<what>.*)", "charon of {node} failed: {what}", _LOGS),
    _Row(
        "ike-failed: (?P<what>.*)",
        "IKE with {gateway} failed: {what} (RFC 7296 §2.21)",
        "testbed logs {lab} {gateway_node}",
    ),
    _Row(
        "registration-timeout",
        "no reply to the registration request {registration} (RFC 5944 §3.6.3)",
    ),
    _Row(
        "registration-failed: timeout .*",
        "no reply to several registration requests (RFC 5944 §3.6.3)",
    ),
    _Row(
        r"registration-failed: (?P<what>\S+) \(code (?P<number>\d+)\)",
        "{denier} denied the registration with code {number}, {what} (RFC 5944 §3.4)",
    ),
    _Row(
        r"no answer from (?P<peer>\S+)",
        "{peer_node} did not answer an echo request {data}",
    ),
    _Row("superseded", "another move began before this move ended", "testbed status {lab}"),
    _Row("(?P<what>(?:the Mobile IP daemon|attach:|discover:|detach:|renew:) .*)", "{what}", _LOGS),
)
"""The first row that fits a code says what it means."""


def in_words(status: LabStatus, node: str) -> State | None:
    """The state of a mobile node's connection manager with its `detail` in words; None where it is silent."""
    state = status.mobile.get(node)
    if state is None or not state.get("detail"):
        return state
    return {**state, "detail": reason(status, node, str(state["detail"]))}


def reason(status: LabStatus, node: str, detail: str) -> str:
    """What a `detail` of a mobile node's connection manager means, and the command that shows more.

    Parts that are no code stay as they are: what was reached, such as `co-located, care-of 10.0.250.1`.
    """
    facts = _facts(status, node)
    parts, command = [], ""
    for part in detail.split("; "):
        row, match = next(
            ((row, match) for row in _ROWS if (match := re.fullmatch(row.code, part))), (None, None)
        )
        if row is None or match is None:
            parts.append(part)
            continue
        words = {**facts, **_about(match.groupdict(), status)}
        parts.append(row.sentence.format_map(words))
        command = row.command.format_map(words)
    return "; ".join([*parts, command] if command else parts)


def _facts(status: LabStatus, node: str) -> dict[str, Any]:
    """What the sentences name: the bounds of the node's configuration, its peers, its place."""
    state = status.mobile.get(node) or {}
    bounds = {key: f"within {value:g} s" for key, value in (state.get("bounds") or {}).items()}
    gateway = state.get("gateway")
    through_agent = state.get("how") == "agent"
    return {
        **dict.fromkeys(("address", "ike", "registration", "data"), "in time"),
        **bounds,
        "lab": status.name,
        "node": node,
        "network": state.get("network") or "any",
        "gateway": gateway or "the VPN gateway",
        "gateway_node": gateway or "",
        # A foreign agent forwards no IPsec of a mobile node that has not registered.
        "silence": "RFC 4093 §4.2" if through_agent else "RFC 7296 §2.1",
    }


def _about(groups: Mapping[str, str], status: LabStatus) -> dict[str, str]:
    """What a code names, in words: whose reply it was, and whose address."""
    words = dict(groups)
    if "number" in groups:  # 64 to 127 are the foreign agent's (RFC 5944 §3.4)
        words["denier"] = "the foreign agent" if 64 <= int(groups["number"]) <= 127 else "the home agent"
    if "peer" in groups:
        links = [(one.name, address) for one in status.nodes for address in one.links.values() if address]
        owners = {address.partition("/")[0]: name for name, address in links}
        words["peer_node"] = owners.get(groups["peer"], groups["peer"])
    return words
