"""The associations that charon lists, and how their numbers are followed."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from testbed.mobileip.io.journal import Journal
from testbed.node import ike_sas


def test_the_associations_of_charon() -> None:
    sa = {"state": b"ESTABLISHED", "remote-id": b"mn", "initiator-spi": b"0f", "uniqueid": b"7"}
    assert ike_sas.read([{"clients": sa}, {"clients": {"state": b"CONNECTING"}}]) == [
        {"state": "ESTABLISHED", "remote-id": "mn", "initiator-spi": "0f", "responder-spi": ""},
        {"state": "CONNECTING", "remote-id": "", "initiator-spi": "", "responder-spi": ""},
    ]


def listed(*children: int) -> list[dict[str, Any]]:
    """What `list-sas` answers of IKE SAs with so many CHILD SAs each."""
    return [
        {"clients": {"child-sas": {f"intranet-{one}": {} for one in range(number)}}} for number in children
    ]


def test_all_count_that_have_not_ended() -> None:
    negotiating: dict[str, Any] = {"clients": {"state": b"CONNECTING"}}
    assert ike_sas.count([*listed(1, 2), negotiating]) == {"ike": 3, "child": 3}
    replaced: dict[str, Any] = {
        "clients": {"child-sas": {"1": {"state": b"REKEYED"}, "2": {"state": b"INSTALLED"}}}
    }
    assert ike_sas.count([replaced, {"clients": {"state": b"DELETING"}}]) == {"ike": 1, "child": 1}
    assert ike_sas.count([]) == ike_sas.NONE


class Charon:
    """Lists one thing after the other, and ends with the last."""

    def __init__(self, *answers: list[dict[str, Any]]) -> None:
        self.answers = list(answers)
        self.followed: list[str] = []

    def list_sas(self) -> list[dict[str, Any]]:
        return self.answers.pop(0)

    def listen(self, events: list[str], every: float) -> Iterator[tuple[None, None]]:
        self.followed = events
        while self.answers:
            yield None, None  # as vici does where no event comes in time
        raise OSError("Connection closed")


def test_numbers_are_reported_when_they_change(monkeypatch: pytest.MonkeyPatch) -> None:
    charon = Charon(listed(1), listed(1), listed(1, 0), listed(1, 1), listed(2, 1), listed(1), listed())
    monkeypatch.setattr(ike_sas.vici, "Session", lambda: charon)
    read, write = os.pipe()
    follower = ike_sas.Follower(Journal("charon", write))
    with pytest.raises(OSError, match="Connection closed"):
        follower.follow()
    follower.report(ike_sas.NONE)
    os.close(write)
    with os.fdopen(read) as lines:
        reported = [json.loads(line) for line in lines]
    assert {(one["event"], one["source"]) for one in reported} == {("associations", "charon")}
    assert [(one["ike"], one["child"]) for one in reported] == [
        *((1, 1), (2, 1), (2, 2), (2, 3), (1, 1), (0, 0)),
    ]
    assert "ike-updown" in charon.followed and "child-updown" in charon.followed
