"""Capture files: what tcpdump and Wireshark write (pcap, pcapng), read as it comes, and pcapng written.

The reader takes bytes in pieces of any size, so that the same code reads a file and a live tcpdump.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from struct import Struct
from typing import Literal

from testbed.errors import Source, TestbedError

ETHERNET = 1
RAW_IP = 101
LINUX_SLL = 113
LINUX_SLL2 = 276

_MAGIC = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}  # magic number → nanoseconds per unit of the fraction
_SECTION, _INTERFACE, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 3, 6
_BYTE_ORDER = 0x1A2B3C4D
_IF_NAME, _IF_TSRESOL, _COMMENT = 2, 9, 1
_LARGEST_KEPT = 262144  # bytes of a packet; what tcpdump has for "all"
_LARGEST = 1 << 24  # no block or packet of ours comes near; beyond it the bytes are no capture

_PCAP_HEADER = 24  # bytes

Endian = Literal["<", ">"]


@dataclass(frozen=True, slots=True)
class Frame:
    """One packet as captured; `time` is in nanoseconds since the epoch, `length` what it had on the wire."""

    time: int
    linktype: int
    data: bytes
    length: int
    interface: str = ""  # the interface's name where the file has it (pcapng)


def packet_mark(packet: bytes) -> str:
    """A short digest of an IP packet without padding, by which it is found again in a capture."""
    length = int.from_bytes(packet[2:4]) if packet[:1] and packet[0] >> 4 == 4 else len(packet)
    return blake2b(packet[:length], digest_size=5).hexdigest()


class CaptureError(TestbedError):
    """The bytes are no capture that can be read."""


@dataclass(slots=True)
class _Interface:
    linktype: int
    per_second: int  # units of a time stamp
    name: str


class CaptureReader:
    """Frames from the bytes of a capture as they arrive; raises `CaptureError` for what is no capture.

    What has not arrived whole stays inside: a file still being written ends in part of a record.
    """

    def __init__(self, name: str = "capture") -> None:
        self.name = name
        self._buffer = bytearray()
        self._endian: Endian = "<"
        self._format: Literal["", "pcap", "pcapng"] = ""
        self._unit = 1000
        self._linktype = ETHERNET
        self._interfaces: list[_Interface] = []

    @property
    def started(self) -> bool:
        """Whether the header of a capture has been read."""
        return bool(self._format)

    @property
    def linktype(self) -> int:
        """The link type of all frames of a pcap, which its header has."""
        return self._linktype

    @property
    def pending(self) -> int:
        """Bytes that are not a whole record yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes; return the frames that are complete with them."""
        self._buffer += data
        if not self._format and not self._begin():
            return []
        return list(self._pcap() if self._format == "pcap" else self._pcapng())

    def _begin(self) -> bool:
        """Tell the format by the first bytes, and read the file header of a pcap."""
        if len(self._buffer) < _PCAP_HEADER:
            return False
        for endian in ("<", ">"):
            magic, *_, linktype = Struct(f"{endian}IHHiIII").unpack_from(self._buffer)
            if magic in _MAGIC:
                self._format, self._endian, self._unit = "pcap", endian, _MAGIC[magic]
                self._linktype = linktype & 0xFFFF  # above it stands the length of a checksum
                del self._buffer[:_PCAP_HEADER]
                return True
            if magic == _SECTION:
                self._format = "pcapng"
                return True
        raise self._bad("neither pcap nor pcapng")

    def _pcap(self) -> Iterator[Frame]:
        header = Struct(f"{self._endian}IIII")
        while len(self._buffer) >= header.size:
            seconds, fraction, captured, length = header.unpack_from(self._buffer)
            if captured > _LARGEST:
                raise self._bad(f"a packet of {captured} bytes")
            end = header.size + captured
            if len(self._buffer) < end:
                return
            data = bytes(self._buffer[header.size : end])
            del self._buffer[:end]
            yield Frame(seconds * 10**9 + fraction * self._unit, self._linktype, data, length)

    def _pcapng(self) -> Iterator[Frame]:
        while len(self._buffer) >= 12:
            if bytes(self._buffer[:4]) == _SECTION.to_bytes(4, "big"):  # the same in both byte orders
                little = int.from_bytes(self._buffer[8:12], "little") == _BYTE_ORDER
                self._endian = "<" if little else ">"
                self._interfaces = []
            kind, length = Struct(f"{self._endian}II").unpack_from(self._buffer)
            if not 12 <= length <= _LARGEST or length % 4:
                raise self._bad(f"a block of {length} bytes")
            if len(self._buffer) < length:
                return
            body = bytes(self._buffer[8 : length - 4])
            del self._buffer[:length]
            frame = self._block(kind, body)
            if frame is not None:
                yield frame

    def _block(self, kind: int, body: bytes) -> Frame | None:
        try:
            if kind == _INTERFACE:
                self._interfaces.append(self._interface(body))
            elif kind == _ENHANCED:
                number, high, low, captured, length = Struct(f"{self._endian}IIIII").unpack_from(body)
                on = self._interfaces[number]
                time = ((high << 32) | low) * 10**9 // on.per_second
                return Frame(time, on.linktype, body[20 : 20 + captured], length, on.name)
            elif kind == _SIMPLE:
                (length,) = Struct(f"{self._endian}I").unpack_from(body)
                return Frame(0, self._interfaces[0].linktype, body[4 : 4 + length], length)
        except Exception as error:  # struct.error, IndexError: the block does not hold what its type needs
            raise self._bad(f"block type {kind}: {error}") from error
        return None

    def _interface(self, body: bytes) -> _Interface:
        linktype, _, _ = Struct(f"{self._endian}HHI").unpack_from(body)
        per_second, name, offset = 10**6, "", 8
        option = Struct(f"{self._endian}HH")
        while offset + option.size <= len(body):
            code, length = option.unpack_from(body, offset)
            value = body[offset + 4 : offset + 4 + length]
            offset += 4 + (length + 3) // 4 * 4
            if code == 0:
                break
            if code == _IF_NAME:
                name = value.decode(errors="replace").rstrip("\0")
            elif code == _IF_TSRESOL:
                per_second = (2 if value[0] & 0x80 else 10) ** (value[0] & 0x7F)
        return _Interface(linktype, per_second, name)

    def _bad(self, what: str) -> CaptureError:
        return CaptureError(f"not a capture: {what}", source=Source(self.name))


def read_capture(path: Path, *, whole: bool = False) -> list[Frame]:
    """All frames of a file, in its order; an unfinished last record is left out unless it is to be `whole`.

    Raises `CaptureError`.
    """
    reader = CaptureReader(str(path))
    try:
        frames = reader.feed(path.read_bytes())
    except OSError as error:
        raise CaptureError(error.strerror or str(error), source=Source(str(path))) from error
    if not reader.started:
        short = "too short" if reader.pending else "empty"
        raise CaptureError(f"not a capture: {short}", source=Source(str(path)))
    if whole and reader.pending:
        raise CaptureError("it ends in the middle of a packet", source=Source(str(path)))
    return frames


def read_linktype(path: Path) -> int:
    """The link type that the header of a pcap file has. Raises `CaptureError`."""
    reader = CaptureReader(str(path))
    try:
        with path.open("rb") as file:
            reader.feed(file.read(_PCAP_HEADER))
    except OSError as error:
        raise CaptureError(error.strerror or str(error), source=Source(str(path))) from error
    return reader.linktype


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _block(kind: int, body: bytes) -> bytes:
    length = (12 + len(body)).to_bytes(4, "little")
    return kind.to_bytes(4, "little") + length + body + length


class CaptureWriter:
    """The bytes of a pcapng file, one piece per call; nanoseconds, and interfaces with names.

    pcapng because the captures of several nodes, of different link types, then fit into one file.
    """

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, int], int] = {}

    def header(self) -> bytes:
        """The beginning of the file."""
        return _block(_SECTION, Struct("<IHHq").pack(_BYTE_ORDER, 1, 0, -1))

    def frame(self, frame: Frame, comment: str = "") -> bytes:
        """One packet, after the description of its interface if that is new; Wireshark shows the comment."""
        key = (frame.interface, frame.linktype)
        pieces = []
        if key not in self._numbers:
            self._numbers[key] = len(self._numbers)
            name = frame.interface.encode()
            options = Struct("<HH").pack(_IF_NAME, len(name)) + _padded(name) if name else b""
            options += Struct("<HHB3x").pack(_IF_TSRESOL, 1, 9) + bytes(4)
            pieces.append(_block(_INTERFACE, Struct("<HHI").pack(frame.linktype, 0, 0) + options))
        head = Struct("<IIIII").pack(
            self._numbers[key], frame.time >> 32, frame.time & 0xFFFFFFFF, len(frame.data), frame.length
        )
        said = comment.encode()
        end = Struct("<HH").pack(_COMMENT, len(said)) + _padded(said) + bytes(4) if said else b""
        pieces.append(_block(_ENHANCED, head + _padded(frame.data) + end))
        return b"".join(pieces)


def write_pcap(path: Path, linktype: int, frames: Iterable[Frame]) -> None:
    """Write frames of one link type as tcpdump does: a pcap file, with microseconds."""
    pieces = [Struct("<IHHiIII").pack(0xA1B2C3D4, 2, 4, 0, 0, _LARGEST_KEPT, linktype)]
    for frame in frames:
        seconds, nanoseconds = divmod(frame.time, 10**9)
        pieces += [
            Struct("<IIII").pack(seconds, nanoseconds // 1000, len(frame.data), frame.length),
            frame.data,
        ]
    path.write_bytes(b"".join(pieces))
