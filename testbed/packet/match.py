"""pcap filters on captured frames, decided on the host by libpcap, as tcpdump decides them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv4Address
from typing import Final

import pcapy

from testbed.packet.filters import FilterError, without_names
from testbed.packet.pcap import RAW_IP, Frame

_DLT: Final = {RAW_IP: 12}
"""Link types of files that libpcap has another number for (LINKTYPE_RAW is DLT_RAW, pcap-linktype(7))."""
_SNAPLEN: Final = 65535
_LOAD, _CLASS = 0x00, 0x07  # BPF instructions, as in bpf(4)
_MODE, _ABSOLUTE, _LENGTH = 0xE0, 0x20, 0x80
_ANCILLARY: Final = 0xFFFFF000
"""From this offset on Linux's kernel has facts beside the packet, such as its direction; a file has not."""


def match(
    frames: Iterable[Frame],
    expression: str,
    hosts: Mapping[str, IPv4Address],
    linktype: int | None = None,
) -> list[Frame]:
    """Return the frames that a pcap filter matches, with `hosts` for the names in it; "" matches all.

    `linktype` is that of the capture: the filter has to go with it where there are no frames, too.

    As with `tcpdump -r`, no byte matches that the capture did not keep, and `len` is the length on the wire.
    Raises `FilterError` for a filter that libpcap refuses, also where it is the frames' link type that it
    does not go with.
    """
    text = without_names(expression, hosts)
    if linktype is not None:
        _program(text, linktype)
    return [frame for frame in frames if _program(text, frame.linktype).matches(frame)]


class _Program:
    """A compiled filter."""

    def __init__(self, text: str, linktype: int) -> None:
        try:
            self._compiled = pcapy.compile(_DLT.get(linktype, linktype), _SNAPLEN, text, 1, 0)
        except (pcapy.PcapError, ValueError) as error:  # ValueError: a zero byte
            raise FilterError(str(error)) from error
        loads = [(code & _MODE, k) for code, _, _, k in self._compiled.get_bpf() if code & _CLASS == _LOAD]
        if any(mode == _ABSOLUTE and k >= _ANCILLARY for mode, k in loads):
            raise FilterError("it matches what the capture of an interface does not record")
        self._asks_length = any(mode == _LENGTH for mode, _ in loads)

    def matches(self, frame: Frame) -> bool:
        data = frame.data
        if self._asks_length and len(data) < frame.length:
            data = data.ljust(frame.length, b"\0")  # libpcap's length on the wire is that of what it is given
        return bool(self._compiled.filter(data))


@lru_cache(maxsize=1024)
def _program(text: str, linktype: int) -> _Program:
    return _Program(text, linktype)
