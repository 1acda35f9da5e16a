"""An address by DHCP (RFC 2131), without the wait other clients have.

A packet socket that is closed, or bound anew, waits for every processor to pass through the scheduler: 10 to
30 ms. Clients that open one for each exchange pay that three times in a hand-off. Here each access link has
one socket for good, with a filter that lets nothing but DHCP in.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from testbed.mobileip.io.bpf import JEQ, JSET, LDB, LDH, LDH_X, LDX_IHL, RET, Instruction, attach_filter
from testbed.node.roam import dhcp_message as message
from testbed.node.roam.dhcp_message import Reply
from testbed.node.roam.links import Lease, LinkError

RETRIES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0)
"""Seconds until a message is repeated: a link that is coming up often loses the first one, and the server is
on it. RFC 2131 §4.1 thinks of slower networks."""
RENEW_RETRY = 5.0
FALLBACK_LEASE = 3600
"""Seconds assumed where a server names none."""

_ETH_P_IP = 0x0800
_EVERYBODY = b"\xff" * 6
_PARAMETERS = bytes([message.MASK, message.ROUTER, message.LEASE_TIME, message.T1, message.T2])

# On the IPv4 packet: UDP, not a later fragment, to the client's port.
_FILTER: tuple[Instruction, ...] = (
    (LDB, 0, 0, 9),
    (JEQ, 0, 6, socket.IPPROTO_UDP),
    (LDH, 0, 0, 6),
    (JSET, 4, 0, 0x1FFF),
    (LDX_IHL, 0, 0, 0),
    (LDH_X, 0, 0, 2),
    (JEQ, 0, 1, message.CLIENT_PORT),
    (RET, 0, 0, 0x40000),
    (RET, 0, 0, 0),
)


@dataclass(frozen=True, slots=True)
class _Granted:
    lease: Lease
    server: IPv4Address
    server_hardware: bytes
    renew: float
    rebind: float
    expire: float


class Dhcp:
    """A DHCP client for several links, on one of them at a time."""

    def __init__(self, interfaces: Iterable[str]) -> None:
        """Opens a socket on each interface; raises LinkError when there is no such interface."""
        self._links = {interface: _DhcpLink(interface) for interface in interfaces}
        self._lost: Callable[[], None] = lambda: None
        self._keeper: asyncio.Task[None] | None = None
        # Renewals are answered to this port; without a taker the kernel would send an error back.
        self._sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sink.bind(("", message.CLIENT_PORT))

    def watch(self, lost: Callable[[], None]) -> None:
        """From now on call `lost` when a lease cannot be kept."""
        self._lost = lost

    async def lease(self, interface: str) -> Lease:
        """Ask for a lease until there is one, and keep it until `stop`."""
        self.stop()
        link = self._links[interface]
        with link:
            while True:
                with suppress(TimeoutError):
                    granted = await link.obtain()
                    break
        self._keeper = asyncio.create_task(self._keep(link, granted))
        return granted.lease

    def stop(self) -> None:
        """Forget the lease without a word to the server: the link is going away."""
        if self._keeper is not None:
            self._keeper.cancel()
            self._keeper = None

    async def _keep(self, link: _DhcpLink, granted: _Granted) -> None:
        """Renew from T1 on, with anybody from T2 on (RFC 2131 §4.4.5)."""
        loop = asyncio.get_running_loop()
        while loop.time() < granted.expire:
            await asyncio.sleep(granted.renew - loop.time())
            with link:
                while loop.time() < granted.expire:
                    with suppress(TimeoutError):
                        renewed = await link.renew(granted, anybody=loop.time() >= granted.rebind)
                        break
                else:
                    break
            if renewed is None or renewed.lease != granted.lease:
                break
            granted = renewed
        self._lost()


class _DhcpLink:
    """The exchange of messages on one link; entered while it listens."""

    def __init__(self, interface: str) -> None:
        self._interface = interface
        try:
            self._hardware = bytes.fromhex(
                Path(f"/sys/class/net/{interface}/address").read_text().strip().replace(":", "")
            )
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 0)
            attach_filter(self._socket, _FILTER)
            self._socket.bind((interface, _ETH_P_IP))
        except OSError as error:
            raise LinkError(f"{interface}: {error}") from error
        self._replies: asyncio.Queue[tuple[Reply, bytes]] = asyncio.Queue()

    def __enter__(self) -> None:
        self._receive()  # and forget: left from the last time, as is the error of a link that was down
        self._replies = asyncio.Queue()
        asyncio.get_running_loop().add_reader(self._socket, self._receive)

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)

    async def obtain(self) -> _Granted:
        """DISCOVER, OFFER, REQUEST, ACK; raises TimeoutError when a step is not answered."""
        transaction, began = secrets.randbits(32), asyncio.get_running_loop().time()
        wanted = {message.PARAMETERS: _PARAMETERS}
        offer, _ = await self._ask(message.DISCOVER, transaction, wanted, message.OFFER)
        chosen = {
            message.REQUESTED: offer.address.packed,
            message.SERVER: offer.options.get(message.SERVER, b""),
            **wanted,
        }
        answer, hardware = await self._ask(message.REQUEST, transaction, chosen, message.ACK, message.NAK)
        granted = self._granted(answer, hardware, began)
        if granted is None:
            raise TimeoutError
        return granted

    async def _ask(
        self, kind: int, transaction: int, options: dict[int, bytes], *answers: int
    ) -> tuple[Reply, bytes]:
        for bound in RETRIES:
            self._send(kind, transaction, options)
            with suppress(TimeoutError):
                return await self._reply(transaction, bound, *answers)
        raise TimeoutError

    async def renew(self, granted: _Granted, anybody: bool) -> _Granted | None:
        """Ask for more time; None when it is refused; raises TimeoutError when nobody answers."""
        transaction, began = secrets.randbits(32), asyncio.get_running_loop().time()
        self._send(
            message.REQUEST,
            transaction,
            {message.PARAMETERS: _PARAMETERS},
            source=granted.lease.address.ip,
            destination=message.BROADCAST if anybody else granted.server,
            hardware=_EVERYBODY if anybody else granted.server_hardware,
        )
        answer, hardware = await self._reply(transaction, RENEW_RETRY, message.ACK, message.NAK)
        return self._granted(answer, hardware, began)

    def _granted(self, answer: Reply, hardware: bytes, began: float) -> _Granted | None:
        mask, server = answer.address_option(message.MASK), answer.address_option(message.SERVER)
        if answer.type != message.ACK or server is None:
            return None
        address = IPv4Interface(f"{answer.address}/{mask or 32}")
        seconds = answer.seconds(message.LEASE_TIME) or FALLBACK_LEASE
        return _Granted(
            Lease(self._interface, address, answer.address_option(message.ROUTER)),
            server,
            hardware,
            began + (answer.seconds(message.T1) or seconds / 2),
            began + (answer.seconds(message.T2) or seconds * 7 / 8),
            began + seconds,
        )

    def _send(
        self,
        kind: int,
        transaction: int,
        options: dict[int, bytes],
        source: IPv4Address = message.UNSPECIFIED,
        destination: IPv4Address = message.BROADCAST,
        hardware: bytes = _EVERYBODY,
    ) -> None:
        packet = message.encode(kind, transaction, self._hardware, options, source, destination)
        with suppress(OSError):  # a link that is just coming up; repeated in a moment
            self._socket.sendto(packet, (self._interface, _ETH_P_IP, 0, 0, hardware))

    async def _reply(self, transaction: int, bound: float, *kinds: int) -> tuple[Reply, bytes]:
        async with asyncio.timeout(bound):
            while True:
                reply, hardware = await self._replies.get()
                if reply.transaction == transaction and reply.type in kinds:
                    return reply, hardware

    def _receive(self) -> None:
        with suppress(BlockingIOError):
            while True:
                try:
                    packet, sender = self._socket.recvfrom(4096)
                except BlockingIOError:
                    raise
                except OSError:
                    continue  # the link went down once
                reply = message.decode(packet)
                if reply is not None and reply.hardware == self._hardware:
                    self._replies.put_nowait((reply, sender[4]))
