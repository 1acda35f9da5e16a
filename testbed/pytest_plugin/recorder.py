"""What the mobile nodes of a lab saw last: a capture that forgets, for tests that fail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from testbed.agreed import RUN
from testbed.errors import TestbedError
from testbed.lab.access import LabAccess
from testbed.lab.tcpdump import INTERFACES, Tcpdump, interface_names
from testbed.packet.decode import link
from testbed.packet.pcap import LINUX_SLL2, CaptureReader, Frame
from testbed.packet.taps import TapFrames

_FOLDER: Final = f"{RUN}/recorder"
_OCTETS: Final = 512
"""Kept of each packet: more than any message of Mobile IP has, headers of tunnels included."""
_FILES: Final = ["-C", "2", "-W", "2"]
"""Two files of two million octets each, the older of which is overwritten."""
_READ: Final = f"""\
({INTERFACES})
echo
cd {_FOLDER}
for file in *; do
    size=$(stat -c %s "$file")
    echo "$size"
    head -c "$size" "$file"
done
"""
_WITHIN: Final = 10.0  # seconds


class Recorder:
    """One tcpdump for all interfaces of a mobile node."""

    def __init__(self, lab: LabAccess, node: str) -> None:
        self.node = node
        self._lab = lab
        self._tcpdump = Tcpdump(
            lambda command: lab.session(node, command, stdin=True),
            ["-i", "any", "-s", str(_OCTETS), *_FILES],
            file=f"{_FOLDER}/pcap",
        )

    def start(self) -> None:
        """Start it, and wait for nothing."""
        self._tcpdump.start()

    def close(self) -> None:
        """Let it end, and wait for nothing."""
        self._tcpdump.leave()

    def since(self, moment: float) -> Iterator[TapFrames]:
        """What is left of the packets on each network since a moment (s since the epoch).

        Raises `TestbedError`.
        """
        done = self._lab.execute(self.node, ["sh", "-c", _READ], within=_WITHIN)
        listing, _, data = done.out.partition(b"\n\n")
        interfaces = interface_names(listing.decode(errors="replace"))
        found: dict[str, list[Frame]] = {
            network: [] for network in self._lab.topology.node(self.node).attaches
        }
        for frame in self._frames(data):
            header = link(frame)
            network = interfaces.get(header.interface or 0, "") if header else ""
            if network in found and frame.time >= moment * 1e9:
                found[network].append(frame)
        for network, frames in found.items():
            if frames:
                frames.sort(key=lambda frame: frame.time)
                yield TapFrames(f"{self.node}/{network}", tuple(frames), linktype=LINUX_SLL2)

    def _frames(self, data: bytes) -> Iterator[Frame]:
        while data:
            size, _, rest = data.partition(b"\n")
            if not size.isdigit():
                raise TestbedError(f"cannot read what {self.node} recorded")
            yield from CaptureReader(self.node).feed(rest[: int(size)])
            data = rest[int(size) :]
