"""Requests to a home agent in several processes: which of them each is for, and one answer of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from testbed.mobileip.core.home_agent import LISTED
from testbed.mobileip.io.control import Connection, RequestError, address
from testbed.mobileip.io.steering import Steering

Reply = Mapping[str, Any]
Ask = Callable[[int, Mapping[str, Any], Callable[[Reply], None]], None]
"""Asks the process of a number, and calls back with its reply."""
ABOUT_ONE = frozenset({"binding", "revoke"})
"""Requests about the mobile node with a home address."""
TO_ALL = frozenset({"state", "flush"})
_SUMS, _COUNTS = ("mobile_nodes",), ("tunnel", "counters")


class ShardRequests:
    """Passes requests on to processes, and answers with what they reply."""

    def __init__(self, steering: Steering, ask: Ask) -> None:
        self._steering = steering
        self._ask = ask

    def handle(self, request: dict[str, Any], connection: Connection) -> None:
        """Answer by the connection when all replies are there; raises RequestError."""
        asked = {key: value for key, value in request.items() if key != "id"}
        numbers: Sequence[int] = (0,)  # which also says what is wrong with a request that nobody knows
        if asked["op"] in ABOUT_ONE:
            try:
                numbers = (self._steering.number(address(asked, "home_address")),)
            except ValueError as error:
                raise RequestError(str(error)) from error
        elif asked["op"] in TO_ALL:
            numbers = range(self._steering.processes)
        replies: dict[int, Reply] = {}

        def take(number: int, reply: Reply) -> None:
            replies[number] = reply
            if len(replies) == len(numbers):
                _answer(connection, asked["op"], [replies[each] for each in numbers])

        for number in numbers:
            self._ask(number, asked, lambda reply, number=number: take(number, reply))  # type: ignore[misc]


def _answer(connection: Connection, op: str, replies: Sequence[Reply]) -> None:
    for reply in replies:
        if not reply["ok"]:
            connection.refuse(RequestError(reply["error"]))
            return
    connection.answer(merged(replies) if op == "state" else replies[0])


def merged(states: Sequence[Reply]) -> Reply:
    """The state of all processes as that of one home agent; `processes` has what each of them has of it."""
    counts = {key: Counter[str]() for key in _COUNTS}
    groups: dict[str, set[str]] = {}
    for state in states:
        for key, total in counts.items():
            total.update(state[key])
        for group, members in state["groups"].items():
            groups.setdefault(group, set()).update(members)
    return {
        **states[0],
        **{key: dict(sorted(total.items())) for key, total in counts.items()},
        "monotonic": max(state["monotonic"] for state in states),
        "mobile_nodes": sum(state["mobile_nodes"] for state in states),
        "bindings": [each for state in states for each in state["bindings"]][:LISTED],
        "groups": {group: sorted(members) for group, members in sorted(groups.items())},
        "processes": [
            {"mobile_nodes": state["mobile_nodes"], "requests": state["counters"]["requests-received"]}
            for state in states
        ],
    }
