"""The data plane that needs no kernel tunnel: a TUN device served by a process of its own."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from testbed.mobileip.core.api import TunnelEnd
from testbed.mobileip.tunnel.api import DEVICES, PlaneError, Side, Tunnel, device_of, ends_of
from testbed.mobileip.tunnel.kernel import answer_again, silence
from testbed.mobileip.tunnel.merging import make_merging_device

if TYPE_CHECKING:
    from testbed.mobileip.io.netlink import Netlink
    from testbed.mobileip.io.steering import Share

TUN_CLONE = "/dev/net/tun"
TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO_ECN = 0x01, 0x02, 0x08
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
BUSY_PATIENCE = 2.0
"""Seconds a predecessor's process may take to let go of the device."""
START_PATIENCE, PATIENCE = 5.0, 0.8
"""Seconds the process may take for its first answer, and for all others: far more than it ever does.

Where our own timers are late, so is a process that merely gets no processor: it has more time then, up to
that for its first answer.
"""
GLANCE, ALLOWANCE, NOISE = 0.05, 10, 0.01
"""Seconds of one of our timers while we wait; seconds more for each that a timer is late, as an answer takes
several wake-ups of processes; and how late a timer may be on a quiet machine."""
MOST = 32
"""Tunnels in a message to the process: with four ends each they fill half of what it reads at once."""
WORKER = "testbed.mobileip.tunnel.worker"
T = TypeVar("T")
Request = dict[str, Any]
"""What the process is asked, or what it answers (`worker.Worker.obey`)."""
Alike = tuple[Tunnel, list[IPv4Address]]
"""The first of some tunnels that are alike but for the mobile node, and the mobile nodes of all."""
_REST = attrgetter("local", "ends", "broadcasts", "former", "delivery")


def open_device(name: str) -> int:
    """Create the TUN device `name`; it lives as long as the descriptor. Raises PlaneError.

    Each datagram has `wire.offload.DEVICE_HEADER` in front of it.
    """
    try:
        descriptor = os.open(TUN_CLONE, os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        raise PlaneError(f"{TUN_CLONE}: {error.strerror}; give the node this device") from error
    until = time.monotonic() + BUSY_PATIENCE
    while True:
        try:
            flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR
            fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
            return descriptor
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > until:
                os.close(descriptor)
                raise PlaneError(f"cannot create the TUN device {name}: {error.strerror}") from error
        time.sleep(0.01)


class TunPlane:
    """Carries datagrams through a TUN device (`worker` says how).

    The device lives as long as this object, so that addresses and routes on it survive the death of the
    process behind it; a new process then gets all tunnels.
    """

    backend = "tun"

    def __init__(
        self,
        side: Side,
        netlink: Netlink,
        devices: str = DEVICES,
        *,
        merges_segments: bool = False,
        share: Share | None = None,
    ) -> None:
        """Create the device `devices`0 and start the process; raises PlaneError.

        `merges_segments`: what of TCP goes into tunnels is merged, where the kernel does that (`merging`).
        `share`: the mobile nodes of this process; None: all.
        """
        self.anchor = f"{devices}0"
        self._names = devices
        self._side = side
        self._netlink = netlink
        self._share = share
        self._tunnels: dict[IPv4Address, Tunnel] = {}
        self._due: Sequence[Alike] = ()  # the process has not yet said that it has set these
        self._opened: set[IPv4Address] = set()  # the local addresses that it surely has
        self._refusals: dict[IPv4Address, PlaneError] = {}
        self._skipped: frozenset[IPv4Address] = frozenset()
        self._past: Counter[str] = Counter()  # counted by the processes that have died
        self._counted: dict[str, int] = {}  # by this one, when it was last asked
        self._discarded: list[Mapping[str, str | int]] = []
        self._restarted = False
        self._device = open_device(self.anchor)
        silence(netlink, devices)
        self._merging = f"{devices}merge0"
        self._frames = make_merging_device(netlink, self._merging) if merges_segments else None
        if self._frames is not None:
            fcntl.ioctl(self._device, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO_ECN)
        self._start()

    @property
    def only_device(self) -> str:
        """The TUN device."""
        return self.anchor

    def _start(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(GLANCE)
        self._patience = START_PATIENCE
        if self._share is not None:
            self._send([{"share": self._share.tunnelled()}], answer=False)
        descriptors = [str(self._device), str(theirs.fileno())]
        arguments = [sys.executable, "-S", "-P", "-m", WORKER, *descriptors, self._side.value]
        if self._frames is not None:
            arguments += [str(self._frames.identifier), self._frames.address.hex()]
        # Without the site module start-up is short; so this is how the process finds the package.
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
        for descriptor in (self._device, theirs.fileno()):
            os.set_inheritable(descriptor, True)
        try:
            self._process = os.posix_spawn(
                sys.executable, arguments, environment, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)]
            )
        except OSError as error:
            raise PlaneError(f"cannot start {WORKER}: {error.strerror}") from error
        finally:
            theirs.close()

    def _restart(self) -> None:
        """Replace a process that has died or hangs, and give the new process all tunnels."""
        self._control.close()
        if self._process:
            os.kill(self._process, signal.SIGKILL)  # not yet waited for: it is still ours
            os.waitpid(self._process, 0)
        self._process = 0  # until there is another: its number may be somebody else's now
        self._past.update(self._counted)
        self._counted = {}
        self._opened.clear()
        self._restarted = True
        self._start()
        try:
            self._exchange([_skip(self._skipped)])
            for some in _portions(list(self._tunnels.values())):
                self._exchange([_set(*each) for each in _alike(some)])
        except OSError as error:
            raise PlaneError(f"the tunnel process does not answer: {error}") from error

    def _exchange(self, requests: list[Request]) -> list[Request]:
        """Requests and their answers; raises OSError when the process does not answer in time."""
        self._send(requests, answer=True)
        return self._answers()

    def _send(self, requests: list[Request], answer: bool) -> None:
        message = json.dumps({"requests": requests, "answer": answer}).encode()
        self._wait(lambda: self._control.send(message))

    def _answers(self) -> list[Request]:
        reply = self._wait(lambda: self._control.recv(0x10000))
        if not reply:
            raise ConnectionResetError("it has ended")
        self._patience = PATIENCE
        answers: list[Request] = json.loads(reply)
        return answers

    def _wait(self, attempt: Callable[[], T]) -> T:
        """Attempt it until it does not time out any more.

        Raises TimeoutError when it always does and a lack of processors is not why.
        """
        now = began = time.monotonic()
        end = began + self._patience
        while True:
            try:
                return attempt()
            except TimeoutError:
                before, now = now, time.monotonic()
                late = now - before - GLANCE
                if late > NOISE:
                    end = min(end + ALLOWANCE * late, began + START_PATIENCE)
                if now >= end:
                    raise

    def _ask(self, request: Request) -> Request:
        (answer,) = self._ask_all([request])
        if "error" in answer:
            raise _refusal(answer)
        return answer

    def _ask_all(self, requests: list[Request]) -> list[Request]:
        self._collect()
        try:
            return self._exchange(requests)
        except OSError:
            return self._ask_another(requests)

    def _ask_another(self, requests: list[Request]) -> list[Request]:
        """Ask another process, as this one has not answered; raises PlaneError."""
        self._restart()
        try:
            return self._exchange(requests)
        except OSError as error:
            raise PlaneError(f"the tunnel process does not answer: {error}") from error

    def set(self, tunnel: Tunnel) -> str:
        """Set up or replace the tunnel of `tunnel.mobile`; returns the device. Raises PlaneError."""
        (device,) = self.set_all([tunnel])
        self.settled(tunnel.mobile)
        return device_of(device)

    def set_all(self, tunnels: Sequence[Tunnel]) -> list[str | PlaneError]:
        """Have the process set up or replace tunnels; returns the device for each.

        It catches up before it discards anything. So nobody has to wait for it, but where it opens a local
        address, which may be refused: `settled` says that, and meanwhile there is time for routes.
        """
        self._collect()
        self._refusals.clear()
        for some in _portions(tunnels):
            self._collect()
            opens = [tunnel for tunnel in some if self._opens(tunnel)]
            self._tunnels.update((tunnel.mobile, tunnel) for tunnel in some)
            alike = _alike(some)
            try:
                self._send([_set(*each) for each in alike], answer=bool(opens))
            except OSError:  # it has ended or hangs, and so it does not answer either
                self._due = alike
            else:
                self._due = alike if opens else ()
        return [self.anchor] * len(tunnels)

    def _opens(self, tunnel: Tunnel) -> bool:
        """Whether a tunnel may need a local address that the process has not opened."""
        before = self._tunnels.get(tunnel.mobile)
        if not tunnel.ends or (before is not None and before.local != tunnel.local):
            self._opened.clear()  # it may close one
        return tunnel.local not in self._opened or bool(tunnel.former) or tunnel.delivery is not None

    def _collect(self) -> None:
        """Wait until the process has set what it was told to, and note what it has refused."""
        due, self._due = self._due, ()
        if not due:
            return
        try:
            try:
                answers = self._answers()
            except OSError:
                answers = self._ask_another([_set(*each) for each in due])
        except PlaneError as error:
            self._refusals.update((mobile, error) for _, mobiles in due for mobile in mobiles)
            return
        for (tunnel, mobiles), answer in zip(due, answers, strict=True):
            if "error" in answer:
                self._refusals.update(dict.fromkeys(mobiles, _refusal(answer)))
            elif tunnel.ends:
                self._opened.add(tunnel.local)

    def leave(self, ends: Collection[IPv4Address]) -> None:
        """Leave what comes from these ends to tunnels of the kernel, but for ends of tunnels here."""
        skipped = frozenset(ends)
        if skipped:
            skipped = skipped.difference(*map(ends_of, self._tunnels.values()))
        if skipped != self._skipped:
            self._skipped = skipped
            self._ask(_skip(skipped))

    def settled(self, mobile: IPv4Address) -> None:
        """See that the process has set the tunnel, and nothing is left of what it replaced."""
        self._collect()
        if (refusal := self._refusals.pop(mobile, None)) is not None:
            raise refusal

    def send(self, mobile: IPv4Address, remotes: Collection[IPv4Address], datagram: bytes) -> None:
        """Send `datagram` into the tunnels of `mobile` to `remotes`; raises PlaneError."""
        self._ask({"send": str(mobile), "remotes": [*map(str, remotes)], "datagram": datagram.hex()})

    def remove(self, mobile: IPv4Address) -> None:
        """Take down the tunnel of `mobile`; raises PlaneError."""
        if self._tunnels.pop(mobile, None) is not None:
            self._opened.clear()
            self._ask({"remove": str(mobile)})

    def counters(self) -> Mapping[str, int]:
        """Packets and bytes in each direction, and what was dropped and why."""
        reply = self._ask({"counters": True})
        self._discarded += reply["discarded"]
        self._counted = reply["counters"]
        return {name: self._past[name] + value for name, value in self._counted.items()}

    def discarded(self) -> list[Mapping[str, str | int]]:
        """What the process has discarded silently, as far as `counters` has heard of it."""
        taken, self._discarded = self._discarded, []
        return taken

    def check(self) -> bool:
        """Restart a process that has died or hangs; raises PlaneError when a device is gone."""
        for device in (self.anchor, self._merging) if self._frames else (self.anchor,):
            try:
                socket.if_nametoindex(device)
            except OSError as error:
                raise PlaneError(f"the device {device} has been deleted") from error
        self.counters()
        restarted, self._restarted = self._restarted, False
        return restarted

    def close(self) -> None:
        """End the process and remove the device."""
        self._control.close()
        answer_again(self._netlink, self._names)
        if self._frames is not None:
            self._netlink.delete_link(self._merging)
        until = time.monotonic() + 1.0
        while self._process and os.waitpid(self._process, os.WNOHANG)[0] == 0:
            if time.monotonic() > until:
                os.kill(self._process, signal.SIGKILL)
                os.waitpid(self._process, 0)
                break
            time.sleep(0.002)
        os.close(self._device)


def _portions(tunnels: Sequence[Tunnel]) -> Iterator[Sequence[Tunnel]]:
    """What goes into one message each to the process."""
    return (tunnels[at : at + MOST] for at in range(0, len(tunnels), MOST))


def _alike(tunnels: Sequence[Tunnel]) -> list[Alike]:
    """Tunnels one after the other that are alike but for the mobile node."""
    groups = [[*group] for _, group in groupby(tunnels, _REST)]
    return [(group[0], [each.mobile for each in group]) for group in groups]


def _refusal(answer: Request) -> PlaneError:
    return PlaneError(f"the tunnel process: {answer['error']}")


def _skip(addresses: frozenset[IPv4Address]) -> Request:
    return {"skip": [str(address) for address in sorted(addresses)]}


def _end(end: TunnelEnd) -> Request:
    return {
        "address": str(end.address),
        "encapsulations": [each.value for each in end.encapsulations],
        "local_port": end.local_port,
        "remote_port": end.remote_port,
    }


def _set(tunnel: Tunnel, mobiles: list[IPv4Address]) -> Request:
    return {
        "set": [str(mobile) for mobile in mobiles],
        "local": str(tunnel.local),
        "ends": [_end(end) for end in tunnel.ends],
        "delivery": tunnel.delivery and _end(tunnel.delivery),
        "broadcasts": [str(address) for address in tunnel.broadcasts],
        "former": [
            {"local": str(former.care_of_address), **_end(former.home_agent)} for former in tunnel.former
        ],
    }
