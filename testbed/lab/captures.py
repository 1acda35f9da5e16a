"""Captures: tcpdump in the nodes, running before the first step and read out after the last.

A tap is `node/network`. A node with fixed links has one tcpdump per interface. The mobile node's links go up
and down, which ends a capture of one interface; so there one tcpdump watches all interfaces (`-i any`), and
the packets of a tap are known by the interface's number, which the format (LINUX_SLL2) keeps.

The files stay in the nodes while they grow. Whoever looks gets what has been added since the last look; after
the end nothing is asked of the nodes any more once a file has been read to its end.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from testbed.agreed import RUN
from testbed.errors import StepError, writing
from testbed.evidence.folder import capture_path
from testbed.evidence.run import CapturedTap, CaptureRecord
from testbed.lab.access import LabAccess
from testbed.lab.tcpdump import INTERFACES, Tcpdump, interface_names
from testbed.packet.decode import link
from testbed.packet.pcap import CaptureError, CaptureReader, Frame, write_pcap
from testbed.packet.taps import TapFrames

FOLDER: Final = f"{RUN}/captures"
START_WITHIN: Final = 8.0
STOP_WITHIN: Final = 15.0
READ_WITHIN: Final = 30.0

# Which number an interface has is asked with every look: a network may be joined later.
_READ = f'[ "$3" = fixed ] || ({INTERFACES}); echo; exec tail -c "+$1" "$2"'


class Capture:
    """One tcpdump in a node and its file, in a folder there; `network` None watches every interface."""

    def __init__(self, lab: LabAccess, node: str, network: str | None, folder: str = FOLDER) -> None:
        self.node, self.network = node, network
        self.place = f"{node}/{network or 'any'}"
        self._lab = lab
        self._file = f"{folder}/{network or 'any'}.pcap"
        self._tcpdump = Tcpdump(
            lambda command: lab.session(node, command, stdin=True),
            ["-i", network or "any"],
            file=self._file,
        )
        self._reading = threading.Lock()
        self._reader = CaptureReader(self.place)
        self._octets = 0  # of the file, read so far
        self._frames: dict[int | None, list[Frame]] = {}  # by the interface's number; None on a fixed link
        self._interfaces: dict[int, str] = {}
        self._stopped = self._whole = False

    @property
    def alive(self) -> bool:
        """Whether it captures; after its end, whether it did so until then and its file is whole."""
        return self._tcpdump.alive and not (self._whole and self._reader.pending)

    @property
    def dropped(self) -> int:
        """Packets that the kernel could not hand over; known once it has ended."""
        return self._tcpdump.dropped

    @property
    def linktype(self) -> int:
        """The link type of its frames."""
        return self._reader.linktype

    def start(self) -> None:
        """Start it; `wait` returns once it runs."""
        self._tcpdump.start()

    def wait(self) -> None:
        """Return once it captures. Raises `StepError`."""
        if not self._tcpdump.wait(START_WITHIN):
            raise StepError(f"no capture at {self.place}: {self._tcpdump.complaint}")

    def end(self) -> None:
        """Let it end; `stop` waits for that."""
        self._tcpdump.end()

    def stop(self) -> None:
        """End it and wait until its file is whole."""
        self.end()
        if self._tcpdump.alive and not self._tcpdump.wait_for_end(STOP_WITHIN):
            raise StepError(f"the capture at {self.place} does not end")
        self._stopped = True

    def look(self, networks: Sequence[str]) -> list[TapFrames]:
        """Return what has been captured so far on each of these networks.

        Raises `StepError` where the file cannot be read, or where all interfaces are captured and none ever
        had a network's name: neither must look like silence.
        """
        with self._reading:
            if not self._whole:
                self._read()
            return [
                TapFrames(
                    f"{self.node}/{network}", self._on(network), self.alive, self.dropped, self.linktype
                )
                for network in networks
            ]

    def _read(self) -> None:
        """Take over what the file has got since the last look."""
        last = self._stopped
        kind = "any" if self.network is None else "fixed"
        command = ["sh", "-c", _READ, "sh", str(self._octets + 1), self._file, kind]
        done = self._lab.execute(self.node, command, within=READ_WITHIN)
        if done.code != 0:
            raise StepError(f"cannot read the capture at {self.place}: {done.complaint}")
        if self.network is None:
            listing, _, data = done.out.partition(b"\n\n")
            self._interfaces |= interface_names(listing.decode(errors="replace"))
        else:
            data = done.out[1:]
        self._octets += len(data)
        try:
            frames = self._reader.feed(data)
        except CaptureError as error:
            raise StepError(f"cannot read the capture at {self.place}: {error.message}") from error
        if not self._reader.started:
            raise StepError(f"the capture at {self.place} has no beginning")
        for frame in frames:
            header = link(frame) if self.network is None else None
            self._frames.setdefault(header.interface if header else None, []).append(frame)
        self._whole = last

    def _on(self, network: str) -> tuple[Frame, ...]:
        if self.network is not None:
            return tuple(self._frames.get(None, ()))
        numbers = [number for number, name in self._interfaces.items() if name == network]
        if not numbers:
            raise StepError(f"{self.node} has no interface {network}")
        frames = [frame for number in numbers for frame in self._frames.get(number, ())]
        return tuple(frames if len(numbers) == 1 else sorted(frames, key=lambda frame: frame.time))


class Captures:
    """All captures of one run; those that run at the same time in one lab need folders of their own."""

    def __init__(self, lab: LabAccess, taps: Iterable[str], folder: str = FOLDER) -> None:
        self.taps = tuple(dict.fromkeys(taps))
        self._captures: dict[str, Capture] = {}
        self._of: dict[str, Capture] = {}
        self._written: dict[str, int] = {}
        for tap in self.taps:
            node, _, network = tap.partition("/")
            roaming = bool(lab.topology.node(node).attaches)
            key = node if roaming else tap
            if key not in self._captures:
                self._captures[key] = Capture(lab, node, None if roaming else network, folder)
            self._of[tap] = self._captures[key]
        self._stopped = False

    def start(self) -> None:
        """Start all and return when all capture. Raises `StepError`."""
        for capture in self._captures.values():
            capture.start()
        for capture in self._captures.values():
            capture.wait()

    def stop(self) -> None:
        """End all; twice is fine."""
        if self._stopped:
            return
        self._stopped = True
        for capture in self._captures.values():
            capture.end()
        for capture in self._captures.values():
            capture.stop()

    def record(self) -> CaptureRecord:
        """How each capture went; known once they have ended and were fetched."""
        return CaptureRecord(
            taps={
                tap: CapturedTap(
                    file=capture_path(tap),
                    alive=one.alive,
                    dropped=one.dropped,
                    frames=self._written.get(tap),
                )
                for tap, one in self._of.items()
            }
        )

    @property
    def dropped(self) -> int:
        """Packets that the kernel could not hand over, all captures together; known once they have ended."""
        return sum(capture.dropped for capture in self._captures.values())

    def look(self, taps: Iterable[str]) -> list[TapFrames]:
        """Return what was captured at taps so far, in the order asked for. Raises `StepError`.

        Each capture is asked once, whatever the number of its taps; after `stop` at most once more.
        """
        asked = list(taps)
        networks: dict[Capture, list[str]] = {}
        for tap in dict.fromkeys(asked):
            networks.setdefault(self._of[tap], []).append(tap.partition("/")[2])
        with ThreadPoolExecutor(4) as threads:
            looks = threads.map(lambda capture: capture.look(networks[capture]), networks)
            found = {tap.name: tap for look in looks for tap in look}
        return [found[tap] for tap in asked]

    def fetch(self, folder: Path) -> list[Path]:
        """Write every tap's packets to `folder/NODE-NETWORK.pcap`. Raises `TestbedError`."""
        paths = []
        for tap in self.look(self.taps):
            path = folder / f"{tap.name.replace('/', '-')}.pcap"
            with writing(path):
                folder.mkdir(parents=True, exist_ok=True)
                write_pcap(path, tap.linktype, tap.frames)
            self._written[tap.name] = len(tap.frames)
            paths.append(path)
        return paths
