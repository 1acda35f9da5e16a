"""Captures: tcpdump in the nodes, running before the first step and read out after the last.

A tap is `node/network`. A node with fixed links has one tcpdump per interface. The mobile node's links go up
and down, which ends a capture of one interface; so there one tcpdump watches all interfaces (`-i any`), and
the packets of a tap are told by the interface's number, which the format (LINUX_SLL2) keeps.
"""

from __future__ import annotations

import io
import re
import tarfile
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from testbed.engine.api import ExecSession
from testbed.evidence.folder import capture_path
from testbed.evidence.run import CapturedTap, CaptureRecord
from testbed.lab.access import LabAccess, StepError

FOLDER: Final = "/run/testbed/captures"
OCTETS: Final = 4096
"""Captured of each packet. The kernel's buffer holds so many packets of this size, however short they are."""
START_WITHIN: Final = 8.0
STOP_WITHIN: Final = 15.0

_CAPTURE = """\
mkdir -p {folder}
exec 3<&0
(
    read -r _ <&3 || :
    before=-1
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        size=$(stat -c %s {folder}/{file})
        [ "$size" != "$before" ] || break
        before=$size
        sleep 0.03
    done
    kill -INT $$
) >/dev/null 2>&1 &
exec tcpdump -n -U --immediate-mode -s {octets} -B 16384 -Z root -i {interface} -w {folder}/{file} 3<&-
"""
# It is stopped when the file has not grown for a moment: a packet in the kernel's buffer would be lost.
# The command is tcpdump itself: if that ends before it is told to, so does the command.


@dataclass(frozen=True, slots=True)
class Matched:
    """The packets of one tap that a filter matches, and how many there are to match."""

    tap: str
    packets: tuple[bytes, ...]  # from the IP header on
    times: tuple[float, ...]  # when each was captured: seconds since the epoch, the clock of all nodes
    total: int  # packets captured at the tap, of any kind
    alive: bool  # the capture was running
    dropped: int  # packets the kernel could not hand over

    def after(self, moment: float) -> Matched:
        """The same with those packets alone that were captured later."""
        later = [one for one in zip(self.packets, self.times, strict=True) if one[1] > moment]
        return replace(self, packets=tuple(one for one, _ in later), times=tuple(time for _, time in later))


class Capture:
    """One tcpdump in a node; `network` None watches every interface."""

    def __init__(self, lab: LabAccess, node: str, network: str | None) -> None:
        self.node, self.network = node, network
        self.file = f"{network or 'any'}.pcap"
        self.alive = False
        self.dropped = 0
        self._lab = lab
        self._live = threading.Event()
        self._ended = threading.Event()
        self._stop = threading.Event()
        self._errors = ""

    def start(self) -> None:
        """Start it; `wait` says when it runs."""
        threading.Thread(target=self._run, daemon=True).start()

    def wait(self) -> None:
        """Return once it captures. Raises `StepError`."""
        if not self._live.wait(START_WITHIN) or not self.alive:
            lines = self._errors.strip().splitlines()
            raise StepError(
                f"no capture at {self.node}/{self.network or 'any'}: {lines[-1] if lines else 'silence'}"
            )

    def end(self) -> None:
        """Tell it to end; `stop` waits for that."""
        self._stop.set()

    def stop(self) -> None:
        """End it and wait until its file is whole."""
        self.end()
        if self.alive and not self._ended.wait(STOP_WITHIN):
            raise StepError(f"the capture at {self.node}/{self.network or 'any'} does not end")

    def _run(self) -> None:
        script = _CAPTURE.format(
            folder=FOLDER, interface=self.network or "any", file=self.file, octets=OCTETS
        )
        ended = False  # as it was told to, and not before
        try:
            with self._lab.session(self.node, ["sh", "-c", script], stdin=True) as session:
                ender = threading.Thread(target=self._end_input, args=(session,), daemon=True)
                for _, data in session:
                    self._errors += data.decode(errors="replace")
                    if not self._live.is_set() and "listening on" in self._errors:
                        self.alive = True
                        self._live.set()
                        ender.start()
                ended = self._stop.is_set() and session.exit_code() == 0
        except Exception as error:
            self._errors += f"\n{error}"
        dropped = re.search(r"(\d+) packets? dropped by kernel", self._errors)
        self.dropped = int(dropped[1]) if dropped else 0
        self.alive = self.alive and ended
        self._live.set()
        self._ended.set()

    def _end_input(self, session: ExecSession) -> None:
        self._stop.wait()
        session.end_input()


class Captures:
    """All captures of one run. Filters may be asked while it runs and after it."""

    def __init__(self, lab: LabAccess, taps: Iterable[str]) -> None:
        self._lab = lab
        self.taps = tuple(dict.fromkeys(taps))
        self._captures: dict[str, Capture] = {}
        for tap in self.taps:
            node, _, network = tap.partition("/")
            roaming = bool(lab.topology.node(node).attaches)
            key = node if roaming else tap
            self._captures.setdefault(key, Capture(lab, node, None if roaming else network))
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
        """How each capture went; known once they have ended."""
        taps = {tap: self._capture(tap) for tap in self.taps}
        return CaptureRecord(
            taps={
                tap: CapturedTap(file=capture_path(tap), alive=one.alive, dropped=one.dropped)
                for tap, one in taps.items()
            }
        )

    @property
    def dropped(self) -> int:
        """Packets that the kernel could not hand over, all captures together; known once they have ended."""
        return sum(capture.dropped for capture in self._captures.values())

    def _capture(self, tap: str) -> Capture:
        return self._captures.get(tap) or self._captures[tap.partition("/")[0]]

    def match(self, tap: str, expression: str) -> Matched:
        """The packets of a tap that a pcap filter matches. Raises `StepError` for a bad filter."""
        node, _, network = tap.partition("/")
        capture = self._capture(tap)
        file = f"{FOLDER}/{capture.file}"
        script = 'here=""\n'
        if capture.network is None:
            script = f'here="ifindex $(cat /sys/class/net/{network}/ifindex)"\n'
        # The whole tap is counted with the same call: a file that is not there must not look like silence.
        script += (
            f'tcpdump -r {file} -n -t -q $here 2>/dev/null | grep -c "^" || [ $? = 1 ]\n'
            f'tcpdump -r {file} -n -tt -x ${{here:+$here and}} "($1)"\n'
        )
        done = self._lab.execute(node, ["sh", "-c", script, "sh", expression], within=20)
        if done.code != 0:
            raise StepError(f"{tap}: filter {expression!r}: {done.complaint}")
        head, _, listing = done.text.partition("\n")
        found = list(_hex_packets(listing))
        packets, times = tuple(packet for _, packet in found), tuple(time for time, _ in found)
        return Matched(tap, packets, times, int(head or 0), capture.alive, capture.dropped)

    def match_all(self, taps: Iterable[str], expression: str) -> list[Matched]:
        """`match` at several taps at once."""
        with ThreadPoolExecutor(4) as threads:
            return list(threads.map(lambda tap: self.match(tap, expression), taps))

    def fetch(self, folder: Path) -> list[Path]:
        """Write every tap's packets to `folder/NODE-NETWORK.pcap`."""
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(4) as threads:
            results = threads.map(lambda capture: self._fetch(capture, folder), self._captures.values())
            return [path for paths in results for path in paths]

    def _fetch(self, capture: Capture, folder: Path) -> list[Path]:
        networks = [tap.partition("/")[2] for tap in self.taps if tap.startswith(f"{capture.node}/")]
        script = f"cd {FOLDER}\n"
        if capture.network is None:
            for network in networks:
                index = f"$(cat /sys/class/net/{network}/ifindex)"
                script += f"tcpdump -Z root -r {capture.file} -w {network}.pcap ifindex {index} 2>/dev/null\n"
            files = [f"{network}.pcap" for network in networks]
        else:
            files = [capture.file]
        script += f"tar -cf - {' '.join(files)}"
        done = self._lab.execute(capture.node, ["sh", "-ec", script], within=30)
        if done.code != 0:
            raise StepError(f"cannot fetch the captures of {capture.node}: {done.complaint}")
        paths = []
        with tarfile.open(fileobj=io.BytesIO(done.out)) as archive:
            for name in files:
                member = archive.extractfile(name)
                path = folder / f"{capture.node}-{name}"
                path.write_bytes(member.read() if member else b"")
                paths.append(path)
        return paths


def _hex_packets(listing: str) -> Iterable[tuple[float, bytes]]:
    """The packets of `tcpdump -tt -x` with their times: a line `TIME …`, then `\\t0x0010:  4500 0054 …`."""
    current: tuple[float, bytearray] | None = None
    for line in listing.splitlines():
        if line.startswith("\t0x"):
            if current is not None:
                current[1].extend(bytes.fromhex(line.partition(":")[2]))
        elif not line.startswith((" ", "\t")):
            if current is not None:
                yield current[0], bytes(current[1])
            current = float(line.partition(" ")[0]), bytearray()
    if current is not None:
        yield current[0], bytes(current[1])
