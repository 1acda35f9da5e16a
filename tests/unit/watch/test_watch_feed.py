"""What a feed asks of a lab, whose nodes are played."""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from testbed.document.functions import Function
from testbed.engine import names
from testbed.engine.api import Container
from testbed.engine.fake import FakeContainer, FakeExec
from testbed.lab.state import ActualLab
from testbed.topology.load import load_topology
from testbed.watch.feed import Feed

COMMAND = "vendor-sas --json"
GATEWAY = Container(
    "id-gw",
    "testbed-lab-gw",
    {
        names.NODE: "gw",
        names.FACTS: json.dumps({"links": {}, "services": ["ike"], "functions": [Function.VPN_GATEWAY]}),
    },
    "running",
    "Up",
    "image",
)


def feed(printed: str, code: int = 0, topology: Any = None) -> Feed:
    """Of a lab with one gateway, whose role's `ike-sas` prints this."""

    def answer(box: FakeContainer, command: Sequence[str], stdin: bytes) -> tuple[bytes, bytes, int]:
        return (printed.encode(), b"", code) if COMMAND in command else (b"", b"", 127)

    played: Any = SimpleNamespace()
    played.execute = lambda id, command, *, stdin=False, tty=False: FakeExec(played, command, answer, tty)
    played_topology: Any = SimpleNamespace(daemons=lambda node: [SimpleNamespace(ike_sas=COMMAND)])
    return Feed(played, ActualLab("lab", (GATEWAY,), ()), topology or played_topology, every=0.0)


@pytest.mark.parametrize(
    ("printed", "code", "words"),
    [
        ('[{"remote-id": "mn", "state": "ESTABLISHED"}]', 0, ("mn established",)),
        (
            '[{"remote-id": "mn", "state": "REKEYING", "initiator-spi": "0f"},'
            ' {"remote-id": null, "state": null}]',
            0,
            ("mn rekeying (0f)", "unknown peer unknown"),
        ),
        ("[]", 0, ()),
        ("[]", 1, ("unknown",)),  # it could not be asked: that is not to have none
        ("not JSON", 0, ("unknown",)),
        ('[{"peer": "mn"}]', 0, ("unknown",)),
        ("17", 0, ("unknown",)),
    ],
)
def test_associations_are_those_that_the_command_of_the_role_prints(
    printed: str, code: int, words: tuple[str, ...]
) -> None:
    assert feed(printed, code).associations("gw", COMMAND) == words


def test_a_gateway_is_asked_by_the_command_of_its_role() -> None:
    one = feed("[]", topology=load_topology("scenario-2.1"))
    assert one._ike_sas == {"gw": "python3 -m testbed.node.ike_sas"}
