from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.lab.reason import in_words, reason
from testbed.lab.status import LabStatus, NodeStatus

ROAM = Path(__file__).parents[3] / "testbed/node/roam"
BOUNDS = {"address": 3.0, "ike": 6.0, "answer": 6.0, "registration": 4.0, "data": 2.5}
KEPT = {"{type(error).__name__}: {error}", "{outcome.detail}; {error}"}
"""What a mistake of ours says, and one code behind another."""


def status(**state: Any) -> LabStatus:
    roam = {"network": "hotspot", "how": "agent", "gateway": "gw", "bounds": BOUNDS, **state}
    nodes = (
        node("mn", {"hotspot": None}, {"roam": roam}),
        node("gw", {"internet": "203.0.113.2"}, {}),
        node("cn", {"servers": "10.0.4.10"}, {}),
    )
    return LabStatus("scenario-2.1", "scenario-2.1", nodes, ())


def node(name: str, links: dict[str, str | None], services: dict[str, Any]) -> NodeStatus:
    return NodeStatus(name, (), "running", "Up", (), links, "", "image", services)


@pytest.mark.parametrize(
    ("detail", "words"),
    [
        (
            "ike-timeout",
            "gw did not answer IKE within 6 s (RFC 4093 §4.2); testbed capture scenario-2.1 mn/hotspot",
        ),
        (
            "no-address: neither a DHCP server nor an agent answered",
            "no DHCP server and no foreign agent answered within 3 s (RFC 2131 §4.4.1, RFC 5944 §2.4); "
            "testbed capture scenario-2.1 mn/hotspot",
        ),
        (
            "ike-failed: establishing CHILD_SA 'vpn' failed",
            "IKE with gw failed: establishing CHILD_SA 'vpn' failed (RFC 7296 §2.21); "
            "testbed logs scenario-2.1 gw",
        ),
        (
            "registration-failed: fa-registration-timeout (code 78)",
            "the foreign agent denied the registration with code 78, fa-registration-timeout "
            "(RFC 5944 §3.4); testbed capture scenario-2.1 mn/hotspot",
        ),
        (
            "registration-failed: ha-too-many-bindings (code 135)",
            "the home agent denied the registration with code 135, ha-too-many-bindings "
            "(RFC 5944 §3.4); testbed capture scenario-2.1 mn/hotspot",
        ),
        (
            "co-located, care-of 10.0.250.1; no answer from 10.0.4.10",
            "co-located, care-of 10.0.250.1; cn did not answer an echo request within 2.5 s; "
            "testbed capture scenario-2.1 mn/hotspot",
        ),
        ("co-located, care-of 10.0.250.1", "co-located, care-of 10.0.250.1"),
    ],
)
def test_codes_are_said_in_the_fields_words(detail: str, words: str) -> None:
    assert reason(status(), "mn", detail) == words
    told = in_words(status(detail=detail), "mn")
    assert told is not None and told["detail"] == words


def test_the_bounds_and_the_place_are_the_nodes_own() -> None:
    there = status(how="dhcp", network="hotel", bounds=BOUNDS | {"ike": 9.5}, gateway="gw-1")
    assert reason(there, "mn", "ike-timeout") == (
        "gw-1 did not answer IKE within 9.5 s (RFC 7296 §2.1); testbed capture scenario-2.1 mn/hotel"
    )
    silent = LabStatus("it", "it", (node("mn", {}, {"roam": None}),), ())
    assert in_words(silent, "mn") is None
    assert "the VPN gateway did not answer IKE" in reason(silent, "mn", "ike-timeout")


def codes() -> Iterator[str]:
    """Every detail that the connection manager can settle with, as its source writes it."""
    for file in ROAM.glob("*.py"):
        for one in ast.walk(ast.parse(file.read_text())):
            match one:
                case ast.Call(func=ast.Name(id="Outcome"), args=[ast.Constant(value="connected"), *_]):
                    pass  # which is no trouble
                case ast.Call(func=ast.Name(id="Outcome"), args=[_, text, *_]):
                    yield from texts(text)
                case ast.Call(func=ast.Name(id="VpnError" | "MobileIpError"), args=[text, *_]):
                    yield from texts(text)
                case ast.Assign(targets=[ast.Name(id="problem")], value=text):
                    yield from texts(text)


def texts(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr():
            yield ast.unparse(node)[2:-1]
        case ast.IfExp():
            yield from texts(node.body)
            yield from texts(node.orelse)


@pytest.mark.parametrize("code", sorted(set(codes())))
def test_no_code_of_a_node_lacks_a_sentence(code: str) -> None:
    if code in KEPT or code in ("does not answer", "is not there"):  # words within another
        return
    sample = code.replace("{event.get('reason')}", "ha-prohibited").replace("{event.get('code')}", "129")
    sample = sample.replace("{op}: {answer", "attach: {answer").replace("{outcome.detail}; ", "")
    sample = sample.replace("{outcome.detail}", "registration-timeout")
    assert reason(status(), "mn", sample) != sample or sample.startswith(("the Mobile IP daemon", "attach:"))
    assert "testbed " in reason(status(), "mn", sample)
