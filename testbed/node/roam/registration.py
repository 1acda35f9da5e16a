"""What becomes of a registration, read off the events of the Mobile IP daemon."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address
from types import TracebackType

from testbed.node.roam.attachment import Agent, Home
from testbed.node.roam.mobile_ip import Message, MobileIp
from testbed.node.roam.move import Outcome

Target = IPv4Address | Agent | Home
"""What is being registered: a co-located care-of address, through an agent, or being at home."""


class Registration:
    """Listens from the beginning of a move, so that no answer is missed however fast it comes."""

    def __init__(self, mobile_ip: MobileIp) -> None:
        self._listening = mobile_ip.listening(self._heard)
        self._events: asyncio.Queue[Message] = asyncio.Queue()

    def __enter__(self) -> Registration:
        self._listening.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.__exit__(kind, error, trace)

    def _heard(self, event: Message) -> None:
        if event["event"] == "detached":  # what was heard before speaks of an earlier attachment
            self._events = asyncio.Queue()
        else:
            self._events.put_nowait(event)

    async def outcome(self, target: Target, bound: float, patient: bool) -> Outcome:
        """Wait `bound` seconds for the answer; one that is `patient` waits on after a denial."""
        at_home = isinstance(target, Home)
        try:
            async with asyncio.timeout(bound):
                while True:
                    event = await self._events.get()
                    if (detail := _success(event, target)) is not None:
                        return Outcome("at-home" if at_home else "registered", detail, complete=True)
                    if event["event"] == "registration-failed" and not patient:
                        problem = f"registration-failed: {event.get('reason')} (code {event.get('code')})"
                        break
        except TimeoutError:
            problem = "registration-timeout"
        return Outcome("at-home" if at_home else "unregistered", problem)


def standing(care_of: IPv4Address) -> Outcome:
    """Of a co-located care-of address that has been registered before."""
    detail = _co_located(care_of)
    return Outcome("registered", detail, complete=True)


def _co_located(care_of: IPv4Address) -> str:
    return f"co-located, care-of {care_of}"


def _success(event: Message, target: Target) -> str | None:
    name, mode = event["event"], event.get("mode")
    match target:
        case Home():
            return "deregistered" if name == "deregistered" and mode == "home" else None
        case Agent():
            through = name == "registered" and mode == "foreign-agent"
            return f"through {event.get('agent')}, care-of {event.get('care_of')}" if through else None
        case _:
            mine = name == "registered" and event.get("care_of") == str(target)
            return _co_located(target) if mine else None
