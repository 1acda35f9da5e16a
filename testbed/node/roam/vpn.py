"""The VPN client: strongSwan's charon, reached over vici; it may start later and start again.

A request is a connection of its own, so nothing has to be repaired when charon restarts and one that is no
longer wanted is dropped by closing it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Any

from vici.protocol import Message, Packet

from testbed.agreed import ESP_MARK
from testbed.node.roam.mobike import EVENTS, Following
from testbed.node.roam.roam_toml import Ipsec

NAME = "vpn"
"""Of the connection, its child and its secret in charon."""
RETRY = 0.005
"""Seconds between attempts to reach charon while a move waits for it."""
IDLE_RETRY = 0.1
LIVENESS = 5.0
"""Seconds without a word from the gateway after which it is asked whether it lives (RFC 7296 §2.4).

A gateway that was restarted knows nothing of what it negotiated, and nothing it could say of that would be
proven; so its silence is waited for: at most this long and the 12.8 s of `retransmit_*` in strongswan.conf.
"""
KEPT_LIVENESS = 30.0
"""The same where inside nothing reaches the gateway, as long as the gateway itself waits (swanctl.conf)."""
PROPOSALS = ["aes128gcm16-prfsha256-x25519", "default"]
ESP_PROPOSALS = ["aes128gcm16", "default"]


class VpnError(Exception):
    """No security association came about; the message is the outcome, e.g. `ike-timeout`."""


@dataclass(frozen=True, slots=True)
class Tunnel:
    """An established security association."""

    local: IPv4Address
    """What IKE and ESP are sent from."""
    inner: IPv4Address | None
    """The address the gateway lent; None where none was asked for."""
    number: bytes = b""
    """What charon calls its IKE SA (`uniqueid`)."""


class Vpn:
    """Negotiates with the gateway and knows whether a security association stands."""

    def __init__(self, config: Ipsec, in_kernel: bool = False, liveness: float = LIVENESS) -> None:
        """`in_kernel`: the kernel carries ESP, and charon leaves routes to us."""
        self._config = config
        self._liveness = liveness
        self.in_kernel = in_kernel
        self.tunnel: Tunnel | None = None
        self._following: Following | None = None

    @property
    def follows(self) -> bool:
        """Whether a security association outlives a move, because charon moves it (MOBIKE)."""
        return self._config.mobike

    def leave(self) -> None:
        """The address goes; what charon reports from now on is about the next."""
        assert self.tunnel is not None
        self._following = Following(self.tunnel.local, self.in_kernel)

    async def follow(self, local: IPv4Address, bound: float) -> Tunnel:
        """Wait until charon has moved the security association to `local`, at most `bound` seconds.

        Raises VpnError where it does not: the security association is of no use any more.
        """
        assert self._following is not None
        arrived = False
        with suppress(TimeoutError):
            async with asyncio.timeout(bound):
                arrived = await self._following.arrived(local)
        if self.tunnel is None or not arrived:
            raise VpnError("mobike-timeout")
        self.tunnel = replace(self.tunnel, local=local)
        return self.tunnel

    async def establish(
        self, local: IPv4Address, inner: IPv4Address | None, bound: float, answer: float
    ) -> Tunnel:
        """Negotiate IKE and ESP from `local` within `bound` seconds, if the gateway answers within `answer`.

        A gateway that has answered is waited for: negotiating anew would leave it with a second SA.
        With `inner` given, that address is the local traffic selector; else the gateway is asked to lend one.
        Raises VpnError. Whatever ends it early, cancellation too, charon keeps nothing that could complete.
        """
        negotiation = asyncio.create_task(self._negotiate(local, inner, bound))
        try:
            async with asyncio.timeout(bound):
                done, _ = await asyncio.wait({negotiation}, timeout=answer)
                if not done and not await self._answered():
                    raise TimeoutError
                self.tunnel = await negotiation
        except (OSError, EOFError, VpnError, asyncio.CancelledError) as error:
            negotiation.cancel()
            await self.destroy()
            if isinstance(error, TimeoutError):
                raise VpnError("ike-timeout") from None
            if isinstance(error, OSError | EOFError):
                raise VpnError(f"ike-failed: charon: {error}") from error
            raise
        return self.tunnel

    async def _negotiate(self, local: IPv4Address, inner: IPv4Address | None, bound: float) -> Tunnel:
        deadline = asyncio.get_running_loop().time() + bound
        async with self._charon(wait=True) as charon:
            charon.follow("ike-updown")
            # charon gives up a little earlier than we do: its answer says more than our clock.
            left = deadline - asyncio.get_running_loop().time() - 0.05
            events = await charon.request(
                ("load-shared", self._secret()),
                ("load-conn", {NAME: self._connection(local, inner)}),
                ("initiate", {"child": NAME, "ike": NAME, "timeout": str(max(1, round(left * 1000)))}),
            )
        up: dict[str, Any] = next(
            (event[NAME] for event in events if event.get("up") == b"yes" and NAME in event), {}
        )
        return Tunnel(local, _lent(up) if inner is None else None, up.get("uniqueid", b""))

    async def _answered(self) -> bool:
        """Whether the gateway has answered at all: then it has chosen an SPI (RFC 7296 §2.6)."""
        try:
            async with self._charon(wait=False) as charon:
                charon.follow("list-sa")
                events = await charon.request(("list-sas", {"ike": NAME}))
        except (OSError, EOFError):
            return False
        return any(int(event[NAME].get("responder-spi", b"0"), 16) for event in events if NAME in event)

    async def destroy(self) -> None:
        """Forget the security association, without waiting for the gateway; never fails."""
        self.tunnel = None
        try:
            async with asyncio.timeout(1.0), self._charon(wait=False) as charon:
                await charon.request(("terminate", {"ike": NAME, "force": "yes", "timeout": "-1"}))
        except (OSError, EOFError, TimeoutError, VpnError):
            pass  # there was none, or no charon

    async def run(self, lost: Callable[[], None]) -> None:
        """Watch charon, for ever; `lost` is called when the security association ends against our will."""
        while True:
            try:
                async with self._charon(wait=False) as charon:
                    for event in ("ike-updown", *(EVENTS if self.follows else ())):
                        charon.follow(event)
                    while True:
                        _, event, message = await charon.receive()
                        if NAME in message:
                            self._heard(event, message, lost)
            except (OSError, EOFError):
                self._gone(lost)
            await asyncio.sleep(IDLE_RETRY)

    def _heard(self, event: str, message: dict[str, Any], lost: Callable[[], None]) -> None:
        if event == "ike-updown" and message.get("up") != b"yes":
            self._gone(lost, message[NAME].get("uniqueid"))
        elif event in EVENTS and self._following is not None:
            self._following.heard(event, message)

    def _gone(self, lost: Callable[[], None], number: bytes | None = None) -> None:
        """The end of an SA that was replaced may be heard of when the new one stands."""
        if self.tunnel is not None and number in (None, self.tunnel.number):
            self.tunnel = None
            if self._following is not None:
                self._following.end()
            lost()

    def _secret(self) -> dict[str, Any]:
        config = self._config
        return {"id": NAME, "type": "IKE", "data": config.psk, "owners": [config.local_id, config.remote_id]}

    def _connection(self, local: IPv4Address, inner: IPv4Address | None) -> dict[str, Any]:
        config = self._config
        child: dict[str, Any] = {
            "remote_ts": [str(prefix) for prefix in config.protects],
            "esp_proposals": ESP_PROPOSALS,
        }
        if self.in_kernel:
            child |= dict.fromkeys(("mark_in", "mark_out", "set_mark_out"), str(ESP_MARK))
        connection: dict[str, Any] = {
            "version": "2",
            "local_addrs": [str(local)],
            "remote_addrs": [str(config.gateway)],
            "proposals": PROPOSALS,
            "mobike": "yes" if config.mobike else "no",
            "dpd_delay": f"{self._liveness:g}s",
            "local": {"auth": "psk", "id": config.local_id},
            "remote": {"auth": "psk", "id": config.remote_id},
            "children": {NAME: child},
        }
        if inner is None:
            connection["vips"] = ["0.0.0.0"]
        else:
            child["local_ts"] = [f"{inner}/32"]
        return connection

    @asynccontextmanager
    async def _charon(self, wait: bool) -> AsyncIterator[_Charon]:
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._config.vici)
                break
            except OSError:
                if not wait:
                    raise
                await asyncio.sleep(RETRY)
        try:
            yield _Charon(reader, writer)
        finally:
            writer.close()


def _lent(up: dict[str, Any]) -> IPv4Address:
    """The inner address that charon reports for the established association."""
    for address in up.get("local-vips", ()):
        return IPv4Address(address.decode())
    raise VpnError("ike-failed: the gateway lent no inner address")


class _Charon:
    """The vici protocol on one connection: length-prefixed packets, coded by the vici package."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def _send(self, packet: bytes) -> None:
        self._writer.write(len(packet).to_bytes(4) + packet)

    async def receive(self) -> tuple[int, str, dict[str, Any]]:
        """The next packet: type, name (of an event) and message; raises EOFError when charon is gone."""
        packet = Packet.parse(
            await self._reader.readexactly(int.from_bytes(await self._reader.readexactly(4)))
        )
        has_message = packet.response_type in (Packet.EVENT, Packet.CMD_RESPONSE)
        event = packet.event_type.decode() if packet.response_type == Packet.EVENT else ""
        return packet.response_type, event, Message.deserialize(packet.payload) if has_message else {}

    def follow(self, event: str) -> None:
        """Have the events of a name sent on this connection, after a packet that confirms it."""
        self._send(Packet.register_event(event))

    async def request(self, *requests: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
        """Make requests, all sent at once as charon takes them in order, and wait for the answers.

        Returns the events that came meanwhile; raises VpnError at the first failure that charon reports.
        """
        for command, message in requests:
            self._send(Packet.request(command, Message.serialize(message)))
        events: list[dict[str, Any]] = []
        for _ in requests:
            kind, _, answer = await self.receive()
            while kind in (Packet.EVENT, Packet.EVENT_CONFIRM):
                events.append(answer)
                kind, _, answer = await self.receive()
            if answer.get("success", b"yes") != b"yes":
                reason = answer.get("errmsg", b"?").decode(errors="replace")
                timeout = "not established after" in reason
                raise VpnError("ike-timeout" if timeout else f"ike-failed: {reason}")
        return events
