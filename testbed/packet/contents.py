"""The bytes of a message within a frame, whatever headers are around it."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.packet.decode import above_link, decode
from testbed.packet.layers import Layer
from testbed.packet.pcap import Frame


def contents(frame: Frame, kinds: type[Layer] | tuple[type[Layer], ...]) -> Iterator[tuple[Layer, bytes]]:
    """Every layer of a kind, and the bytes that are its own, in the order of the wire."""
    raw, at = above_link(frame), 0
    for layer in decode(frame.data, frame.linktype, frame.length).above_link:
        if isinstance(layer, kinds):
            yield layer, raw[at : at + layer.size]
        at += layer.size
