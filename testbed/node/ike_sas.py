"""The IKE SAs of this node's charon, read over vici, its control protocol.

    python3 -m testbed.node.ike_sas
    [{"state": "ESTABLISHED", "remote-id": "mn", "initiator-spi": "0f1e…", "responder-spi": "8796…"}]

With `--follow` it goes on, and the node's log gets an event with the numbers of IKE SAs and CHILD SAs, now
and whenever they change:

    {"event": "associations", "source": "charon", "monotonic": 107.2, "ike": 8, "child": 8}

Exit code 1 and a line on standard error where charon cannot be asked.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any

import vici

from testbed.agreed import ASSOCIATIONS
from testbed.mobileip.io.journal import Journal

KEYS = ("state", "remote-id", "initiator-spi", "responder-spi")
CHANGES = ("ike-updown", "ike-rekey", "child-updown", "child-rekey")
"""The events of charon after which its numbers may be others."""
EVERY = 0.25
"""Seconds after which charon is asked without an event: none says when a negotiation begins, or fails."""
ENDED = (b"REKEYED", b"DELETING", b"DELETED", b"DESTROYING")
"""States of SAs that charon keeps for some seconds after their end, as packets may still come for them."""
NODE_LOG = "/proc/1/fd/1"
NONE = {"ike": 0, "child": 0}


def read(sections: list[dict[str, Any]]) -> list[dict[str, str]]:
    """What `list-sas` answers: an IKE SA a section, whose key is the connection's name."""
    return [
        {key: sa.get(key, b"").decode(errors="replace") for key in KEYS}
        for section in sections
        for sa in section.values()
    ]


def count(sections: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many IKE SAs and CHILD SAs there are in what `list-sas` answers, but those that have ended."""
    sas = [sa for section in sections for sa in section.values()]
    children = [child for sa in sas for child in sa.get("child-sas", {}).values()]
    return {"ike": len(_lasting(sas)), "child": len(_lasting(children))}


def _lasting(sas: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [sa for sa in sas if sa.get("state") not in ENDED]


class Follower:
    """Reports numbers that differ from those before."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._numbers: dict[str, int] | None = None

    def report(self, numbers: dict[str, int]) -> None:
        """Report the numbers as they are now."""
        if numbers != self._numbers:
            self._numbers = numbers
            self._journal.tell(ASSOCIATIONS, numbers)

    def follow(self) -> None:
        """Ask charon again and again, until it ends. Raises `OSError`."""
        asking, listening = vici.Session(), vici.Session()
        with closing(listening.listen(list(CHANGES), EVERY)) as changes:
            self.report(count(asking.list_sas()))
            for _ in changes:
                self.report(count(asking.list_sas()))


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="testbed.node.ike_sas")
    parser.add_argument("--follow", action="store_true")
    follow: bool = parser.parse_args(arguments).follow
    try:
        sections = list(vici.Session().list_sas())
    except OSError as error:
        parser.exit(1, f"charon does not answer: {error}\n")
    if not follow:
        print(json.dumps(read(sections)))
        return
    follower = Follower(Journal("charon", os.open(NODE_LOG, os.O_WRONLY)))
    follower.report(count(sections))
    print("running", flush=True)
    while True:
        try:
            follower.follow()
        except OSError:  # with charon all of them are gone
            follower.report(NONE)
        time.sleep(EVERY)


if __name__ == "__main__":
    main()
