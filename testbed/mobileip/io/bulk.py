"""Runs many mobile nodes in one node: one UDP socket, one raw socket, and all care-of addresses as its own.

Whole prefixes of care-of addresses are local to the node (AnyIP: a route of the kind `local`), so that none
of them costs an address of an interface. What comes out of the tunnels is answered here where it is an echo
request to a mobile node (RFC 792), and dropped where it is anything else.
"""

from __future__ import annotations

import gc
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from testbed.mobileip.core.api import Datagram
from testbed.mobileip.core.mobile.crowd import Crowd
from testbed.mobileip.io.buffers import SO_RCVBUFFORCE, SO_SNDBUFFORCE, enlarge
from testbed.mobileip.io.bulk_moves import Moves, address
from testbed.mobileip.io.bulk_toml import BulkSettings, read
from testbed.mobileip.io.changes import DEFAULT, Rule
from testbed.mobileip.io.clock import unix_time
from testbed.mobileip.io.control import Connection, ControlServer, RequestError
from testbed.mobileip.io.errors import ConfigError, NodeError
from testbed.mobileip.io.instance import Claims
from testbed.mobileip.io.journal import Journal, log
from testbed.mobileip.io.loop import Loop
from testbed.mobileip.io.netlink import Netlink
from testbed.mobileip.io.udp import ANSWERS, BURST, Place, RegistrationSocket
from testbed.mobileip.tunnel.kernel import answer_again, silence
from testbed.mobileip.wire.checksum import internet_checksum
from testbed.mobileip.wire.encapsulation import header_size
from testbed.mobileip.wire.ipv4 import HEADER_SIZE, ICMP, IP_IN_IP, datagram, ip_in_ip

PREFERENCE = 240
"""Of the rules by which each care-of address sends by the router of its network."""
_ECHO_REQUEST = 8
READ_AHEAD = 16 * BURST


def answer(packet: bytes, crowd: Crowd) -> bytes | None:
    """What a mobile node sends back for a packet that came out of a tunnel; None: nothing.

    Only its home agent may tunnel to it (RFC 5944 §4.2.2), and only to where it is registered.
    """
    start = header_size(packet)
    inner = packet[start:]
    if len(inner) < HEADER_SIZE + 8 or inner[0] != 0x45 or inner[9] != ICMP:
        return None
    if inner[HEADER_SIZE] != _ECHO_REQUEST or inner[6] & 0x3F or inner[7]:
        return None  # a fragment, or no echo request
    member = crowd.at(inner[16:20])
    tunnel = member.tunnel if member is not None else None
    if member is None or tunnel is None or packet[16:20] != tunnel.care_of_address.packed:
        return None
    if packet[12:16] != tunnel.home_agent.address.packed:
        return None
    message = b"\0\0\0\0" + inner[HEADER_SIZE + 4 : int.from_bytes(inner[2:4], "big")]
    message = message[:2] + internet_checksum(message).to_bytes(2, "big") + message[4:]
    reply = datagram(message, ICMP, member.home, IPv4Address(inner[12:16]), tos=inner[1])
    if tunnel.reverse_tunnel:
        return ip_in_ip(reply, tunnel.care_of_address, tunnel.home_agent.address, 0)
    return reply


class BulkShell:
    """A crowd with its sockets."""

    def __init__(self, crowd: Crowd, journal: Journal, registration: RegistrationSocket) -> None:
        """Raises PermissionError without NET_RAW."""
        self._crowd = crowd
        self._journal = journal
        self._registration = registration
        self._loop = Loop()
        self._moves = Moves(crowd, journal)
        self._echoes = 0
        self._raw = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, IP_IN_IP)
        self._raw.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
        enlarge(self._raw, SO_SNDBUFFORCE, SO_RCVBUFFORCE)
        self._loop.add(registration.socket.fileno(), self._read_replies)
        self._loop.add(self._raw.fileno(), self._read_tunnelled)

    def close(self) -> None:
        """Close the raw socket."""
        self._raw.close()

    def serve(self, path: Path) -> ControlServer:
        """Open the control socket: `state`, `node`, `move` and `subscribe`; raises NodeError."""
        return ControlServer(path, self._loop, self._journal, self._request)

    def run(self, attach: str | None, within: float) -> None:
        """Attach all nodes to a network, and serve until a signal."""
        self._loop.catch_signals()
        self._journal.tell("ready", {"nodes": len(self._crowd.members)})
        if attach is not None:
            self._moves.attach(attach, within, time.monotonic())
        self._turn()
        self._loop.run(self._deadline, self._turn)

    def _deadline(self) -> float | None:
        due = [each for each in (self._crowd.deadline(), self._moves.deadline()) if each is not None]
        return min(due, default=None)

    def _turn(self) -> None:
        now = time.monotonic()
        self._crowd.tick(now)
        for effect in self._crowd.effects():
            self._send(effect.datagram)
        self._moves.turn(now)

    def _send(self, outgoing: Datagram) -> None:
        # Without an interface: by the rule of its care-of address.
        ends = outgoing.source, outgoing.source_port, outgoing.destination, outgoing.destination_port
        try:
            self._registration.send(Datagram(outgoing.payload, *ends, ttl=outgoing.ttl))
        except NodeError as error:
            self._crowd.events["not-sent"] += 1
            log(str(error))

    def _read_replies(self) -> None:
        for _ in self._registration.unreachable():
            self._crowd.events["unreachable"] += 1
        for received in self._registration.receive(READ_AHEAD):  # before nodes ask again
            self._crowd.receive(received, time.monotonic())

    def _read_tunnelled(self) -> None:
        for _ in range(BURST):
            try:
                packet = self._raw.recv(0x10000)
            except OSError:
                return
            if (reply := answer(packet, self._crowd)) is None:
                self._crowd.events["not-answered"] += 1
                continue
            try:
                self._raw.sendto(reply, (socket.inet_ntoa(reply[16:20]), 0))
                self._echoes += 1
            except OSError:
                self._crowd.events["not-sent"] += 1

    # -- requests ----------------------------------------------------------------------------------------

    def _request(self, request: dict[str, Any], client: Connection) -> Mapping[str, Any]:
        now = time.monotonic()
        try:
            if request["op"] == "state":
                return {"monotonic": round(now, 6), "echoes": self._echoes, **self._crowd.state()}
            if request["op"] == "node":
                return self._crowd.member(address(request.get("home_address"))).node.state(now)
            if request["op"] == "move":
                return self._moves.request(request, client, now)
        except ValueError as error:
            raise RequestError(str(error)) from error
        raise RequestError(f"unknown op {request['op']!r}; expected state, node, move or subscribe")


def run_bulk_nodes(file: Path, control: Path | None) -> None:
    """Run the nodes of a file until a signal; raises ConfigError or NodeError."""
    settings = read(file)
    try:
        networks = {each.name: each.care_of for each in settings.networks}
        crowd = Crowd(settings.configs(), networks, unix_time)
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from error
    instance, path = settings.instance, control or settings.control
    with ExitStack() as stack:
        claims = stack.enter_context(closing(Claims()))
        claims.take(instance.claims.items())
        netlink = stack.enter_context(closing(Netlink(instance.protocol)))
        registration = RegistrationSocket(Place(settings.first.port), ANSWERS)
        stack.callback(registration.close)
        shell = stack.enter_context(closing(BulkShell(crowd, Journal(instance.name), registration)))
        stack.callback(netlink.clean)
        _route(settings, netlink)
        silence(netlink, instance.devices)
        stack.callback(answer_again, netlink, instance.devices)
        if path is not None:
            stack.enter_context(closing(shell.serve(path)))
        gc.freeze()  # what is there now stays, and is not looked through again
        gc.enable()
        shell.run(settings.attach, settings.within)


def _route(settings: BulkSettings, netlink: Netlink) -> None:
    """Make the care-of addresses this node's, each with the router of its network."""
    netlink.clean()
    assert settings.instance.table is not None
    for table, network in enumerate(settings.networks, settings.instance.table):
        netlink.set_local(network.care_of)
        netlink.set_route(DEFAULT, network.name, table=table, gateway=network.router)
        netlink.add_rule(Rule(PREFERENCE, table, network.care_of))
