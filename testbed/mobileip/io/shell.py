"""Runs a core: sockets and clock in, effects out."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Protocol

from testbed.mobileip.core.api import (
    AgentMessage,
    Core,
    Datagram,
    Effect,
    GratuitousArp,
    Records,
    Refused,
    ReportEvent,
    SendAgentMessage,
    SendDatagram,
    SendOnHomeLink,
)
from testbed.mobileip.io.control import Connection, ControlLink, ControlServer, RequestError
from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.io.journal import Journal, log
from testbed.mobileip.io.loop import Loop
from testbed.mobileip.io.packet import AgentListener, LinkSender, SenderWatch
from testbed.mobileip.io.role import Role
from testbed.mobileip.io.store import Store
from testbed.mobileip.io.turn import settle
from testbed.mobileip.io.udp import BURST, RegistrationSocket
from testbed.mobileip.tunnel.api import PlaneError

GROUPS = (IPv4Address("224.0.0.11"), IPv4Address("224.0.0.2"))
"""All mobility agents; all routers, where solicitations may also go (RFC 5944 §2.2, RFC 1256 §5.1)."""
NETWORK_UNREACHABLE = 0

Command = Callable[[Mapping[str, Any], float], Mapping[str, Any] | None]
"""Obeys a request of the control socket, and returns what the reply has besides; raises RequestError,
ValueError or NodeError."""
CHECK_INTERVAL = 0.4
"""Seconds between two looks at the data plane; with `tun.PATIENCE`, it is mended within two seconds."""
READ_AHEAD = 16 * BURST
"""Datagrams that are let in to wait before some are answered."""
Unreachable = Callable[[IPv4Address, int, float], None]
"""Called with the destination and ICMP code of a datagram that could not be delivered."""


class Pace(Protocol):
    """A core that counts from when its requests leave (RFC 5944 §3.6.3)."""

    def departed(self, now: float) -> None:
        """The last request has left this node."""

    def held_back(self) -> None:
        """The last request still waits inside this node; `departed` may follow."""


class Backlog(Protocol):
    """A core that lets requests wait until it has time for them."""

    @property
    def waiting(self) -> int:
        """How many wait."""

    def enqueue(self, datagram: Datagram, arrived: float) -> None:
        """Take a datagram that has arrived at `arrived`."""

    def serve(self, now: float) -> None:
        """Answer the next request."""


class Shell:
    """One core, its sockets, and the role that carries out what it decides."""

    def __init__(
        self,
        core: Core,
        role: Role,
        journal: Journal,
        registration: Sequence[RegistrationSocket],
        unreachable: Unreachable | None = None,
        pace: Pace | None = None,
        refused: Refused | None = None,
        backlog: Backlog | None = None,
    ) -> None:
        """Listen at the sockets of `registration`, of which the first one sends; raises NodeError."""
        self._refused = refused
        self._backlog = backlog
        self._core = core
        self._role = role
        self._journal = journal
        self._unreachable = unreachable
        self._pace = pace
        self._store: Store | None = None
        self._check_at = 0.0
        self._loop = Loop()
        self._control: ControlServer | ControlLink | None = None
        self._commands: dict[str, Command] = {}
        self._listeners: dict[str, AgentListener] = {}
        self._links = LinkSender()
        self._registration, *_ = self._ears = registration
        self._watches = {interface: SenderWatch(interface, role.share) for interface in role.watched}
        for ear in self._ears:
            if backlog is not None:
                ear.stamp_arrivals()
            self._loop.add(ear.socket.fileno(), partial(self._read_registration, ear))
        for interface in role.listens:
            self.listen(interface)
            for group in GROUPS:
                for ear in self._ears:
                    if ear.place.address is None and ear.place.interface in (None, interface):
                        ear.join(interface, group)
        for watch in self._watches.values():
            self._loop.add(watch.socket.fileno(), partial(self._read_watch, watch))

    def keep(self, store: Store, restore: Callable[[Records, float], None]) -> None:
        """Have the core `restore` what `store` has, and keep there what it asks to remember.

        Raises NodeError for records that the core does not understand.
        """
        self._store = store
        try:
            restore(store.records, time.monotonic())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise store.unusable(error) from error

    def serve(self, path: Path, commands: Mapping[str, Command]) -> None:
        """Open the control socket: `state`, `subscribe` and `commands`; raises NodeError."""
        self._commands.update(commands)
        self._control = ControlServer(path, self._loop, self._journal, self._request)

    def serve_parent(self, link: socket.socket, commands: Mapping[str, Command]) -> None:
        """Answer the same requests of the process that started this one, and end when that has gone."""
        self._commands.update(commands)
        self._control = ControlLink(link, self._loop, self._request, self._loop.stop)

    def run(self) -> None:
        """Until a signal ends it; raises PlaneError when the data plane cannot be mended."""
        self._loop.catch_signals()
        self._perform()  # what a predecessor has left to do
        self._journal.tell("ready", {"backend": self._role.plane.backend})
        self._turn()
        self._loop.run(self._deadline, self._turn)

    def close(self) -> None:
        """Close the sockets."""
        if self._control is not None:
            self._control.close()
        self._links.close()

    def listen(self, interface: str) -> None:
        """Hear agent discovery on a link from now on; raises NodeError.

        A listener stays for good, as closing one makes the caller wait for the kernel; what comes from a link
        that is not in use the core ignores.
        """
        listener = self._listeners.get(interface)
        if listener is not None:
            try:
                if socket.if_nametoindex(interface) == listener.index:
                    return
            except OSError:
                pass
            self._loop.remove(listener.socket.fileno())  # of a link that is gone
            del self._listeners[interface]
            listener.socket.close()
        listener = AgentListener(interface)
        self._listeners[interface] = listener
        self._loop.add(listener.socket.fileno(), partial(self._read_agent_messages, listener))

    # -- in ----------------------------------------------------------------------------------------------

    def watch(self, sock: socket.socket, callback: Callable[[], None]) -> None:
        """Call back when `sock` is readable, and then perform what follows."""
        self._loop.add(sock.fileno(), callback)

    def _read_registration(self, ear: RegistrationSocket) -> None:
        if self._pace is not None:
            self._read_errors()  # a request has left before its reply comes
        if self._backlog is None:
            for datagram in ear.receive():
                self._core.receive(self._with_sender(datagram), time.monotonic())
        else:
            for datagram in ear.receive(READ_AHEAD):
                self._backlog.enqueue(self._with_sender(datagram), time.monotonic() - ear.waited)
        self._read_errors()

    def _read_errors(self) -> None:
        held_back = self._registration.held_back
        for report in self._registration.unreachable():
            if self._unreachable is not None:
                self._unreachable(report.destination, report.code, time.monotonic())
        if self._pace is not None and held_back and not self._registration.held_back:
            self._pace.departed(time.monotonic())

    def _read_watch(self, watch: SenderWatch) -> None:
        watch.update()
        for datagram in watch.unheard():
            self._core.receive(datagram, time.monotonic())

    def _with_sender(self, datagram: Datagram) -> Datagram:
        watch = self._watches.get(datagram.interface or "") if self._watches else None
        if watch is None:
            return datagram
        watch.update()
        sender = watch.sender(datagram.source, datagram.source_port, datagram.payload)
        return Datagram(
            datagram.payload,
            datagram.source,
            datagram.source_port,
            datagram.destination,
            datagram.destination_port,
            datagram.interface,
            datagram.ttl,
            sender,
        )

    def _read_agent_messages(self, listener: AgentListener) -> None:
        for message in listener.messages():
            self._core.receive_agent_message(message, time.monotonic())

    def _request(self, request: dict[str, Any], _connection: Connection) -> dict[str, Any]:
        name = request["op"]
        if name == "state":
            return self.state()
        command = self._commands.get(name)
        if command is None:
            known = ", ".join(sorted({"state", "subscribe", *self._commands}))
            raise RequestError(f"unknown op {name!r}; there are {known}")
        try:
            fields = command(request, time.monotonic())
        except (ValueError, NodeError) as error:
            raise RequestError(str(error)) from error
        self._perform()
        return dict(fields or {})

    def state(self) -> dict[str, Any]:
        """The answer to the control socket's `state`."""
        now = time.monotonic()
        return {
            "source": self._journal.source,
            "monotonic": round(now, 6),
            "backend": self._role.plane.backend,
            "tunnel": dict(self._role.plane.counters()),
            **self._core.state(now),
        }

    # -- out ---------------------------------------------------------------------------------------------

    def _deadline(self) -> float:
        if self._backlog is not None and self._backlog.waiting:
            return 0.0
        due = self._core.deadline()
        return self._check_at if due is None else min(due, self._check_at)

    def _turn(self) -> None:
        """After whatever happened: what is due, and what follows."""
        now = time.monotonic()
        if self._check_at <= now:
            self._check_at = now + CHECK_INTERVAL
            if self._role.plane.check():
                log("the tunnel process had ended or did not answer: there is a new one")
                self._journal.tell("tunnel-restarted")
            for discarded in self._role.plane.discarded():
                self._journal.tell("discarded", discarded)
        if self._backlog is not None:
            for _ in range(min(BURST, self._backlog.waiting)):  # then look what has arrived meanwhile
                self._backlog.serve(time.monotonic())
        deadline = self._core.deadline()
        if deadline is not None and deadline <= now:
            self._core.tick(now)
        self._perform()

    def _perform(self) -> None:
        effects = self._core.effects()
        if not effects:
            return
        with self._journal.together():
            if self._refused is not None:
                effects = settle(effects, self._role, self._store, self._refused, self._failed)
            for effect in effects:
                try:
                    self._carry_out(effect)
                except (NodeError, PlaneError) as error:
                    self._failed(type(effect).__name__, error)

    def _failed(self, effect: str, error: Exception) -> None:
        """Less works than should, but what the core believes about its peers remains true."""
        log(f"{effect}: {error}")
        self._journal.tell("error", {"effect": effect, "message": str(error)})

    def _carry_out(self, effect: Effect) -> None:
        if isinstance(effect, ReportEvent):
            self._journal.tell(effect.name, effect.fields)
        elif isinstance(effect, SendDatagram):
            self._send(self._role.outgoing(effect.datagram))
        elif isinstance(effect, SendAgentMessage):
            self._send_agent_message(effect.message)
        elif isinstance(effect, SendOnHomeLink):
            if self._role.announces:
                self._links.send_to_all(effect.datagram, self._role.announces)
        elif isinstance(effect, GratuitousArp):
            if interface := effect.interface or self._role.announces:
                self._links.send_gratuitous_arp(effect.address, interface, effect.link_address)
        else:
            self._role.apply(effect)

    def _send(self, datagram: Datagram) -> None:
        try:
            if datagram.link_address is not None and datagram.interface is not None:
                self._links.send_datagram(datagram, datagram.interface, datagram.link_address)
            else:
                self._registration.send(datagram)
            self._see_off(datagram)
        except NodeError:
            if self._unreachable is not None:
                self._unreachable(datagram.destination, NETWORK_UNREACHABLE, time.monotonic())
            raise

    def _see_off(self, datagram: Datagram) -> None:
        """Report to the core when its request leaves; a frame of our own has left when it is sent."""
        if self._pace is None:
            return
        if datagram.link_address is not None and datagram.interface is not None:
            self._pace.departed(time.monotonic())
            return
        self._read_errors()
        if self._registration.held_back:
            self._pace.held_back()
        elif not self._registration.stamps:
            self._pace.departed(time.monotonic())

    def _send_agent_message(self, message: AgentMessage) -> None:
        self._links.send_agent_message(message)
