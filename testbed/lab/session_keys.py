"""Session keys of IKE and ESP, from what charon writes to its log where its configuration asks for them.

strongSwan has the keys at level 4 of the groups `ike` and `chd`, as hexadecimal dumps:

    13[IKE] <vpn|1> Sk_ei secret => 20 bytes @ 0x7ff1c400e2b0
    13[IKE] <vpn|1>    0: DC B7 B8 32 9E 42 1C B5 55 9E FA F6 22 30 4E 79  ...2.B..U..."0Ny
    13[IKE] <vpn|1>   16: 6D CA 18 55                                      m..U
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from types import MappingProxyType
from typing import Final

from testbed.engine.api import Container, Engine
from testbed.evidence.wireshark import AES, SALT, EspSa, IkeSa
from testbed.lab.logs import read_logs

_LINE: Final = re.compile(r"(\d+)\[([A-Z]{3})\] (?:<(?:[^|>]*\|)?(\d+)> )?(.*)")
"""Thread, group, number of the IKE SA if there is one, text."""
_START: Final = "Starting IKE charon daemon"
_DUMP: Final = re.compile(r"(.+) => (\d+) bytes")
_OCTETS: Final = re.compile(r" *\d+: ((?:[0-9A-F]{2} ){1,16})")
_PROPOSAL: Final = re.compile(r"selected proposal: IKE:([^/]+)")
_CIPHER: Final = re.compile(r"  using (\S+) for encryption")
_DIRECTION: Final = re.compile(r"(?:adding|registering) (inbound|outbound) ESP SA")
_SPI: Final = re.compile(r"  SPI 0x([0-9a-f]+), src (\S+) dst (\S+)")
_PARSED: Final = re.compile(r"parsed (?:IKE_AUTH|CREATE_CHILD_SA) (request|response)")
_SPIS: Final = "natd_chunk"
"""What NAT detection hashes: both SPIs of the IKE SA, address and port (RFC 7296 §2.23)."""
_GCM: Final = "AES_GCM_16"
NO_SPIS: Final[Mapping[str, bytes]] = MappingProxyType({})
_KEYS: Final = {
    "encryption initiator key": "initiator",
    "encryption responder key": "responder",
}


@dataclass(slots=True)
class _Ike:
    """What has been read of one IKE SA."""

    spis: bytes = b""
    proposal: str = ""
    initiator_key: bytes = b""
    cipher: str = ""  # of the CHILD_SA that is being made
    child: dict[str, bytes] = field(default_factory=dict)  # its keys, by who sends with them
    answered: bool = False  # the peer answers, so that this side is the initiator of the exchange
    direction: str = ""


@dataclass(slots=True)
class _Dump:
    """A dump whose octets are still to come."""

    what: str
    length: int
    octets: bytearray = field(default_factory=bytearray)


def parse_charon(lines: Iterable[str], spis: Mapping[str, bytes] = NO_SPIS) -> Iterator[EspSa | IkeSa]:
    """The security associations whose keys a log of charon has, those with AES-GCM and an ICV of 16 octets.

    Both ends of an association have the same. An IKE SA that replaces another (rekeying) has no line with
    its SPIs, and is left out unless `spis` has both of them, one behind the other, by its number.
    """
    sas: dict[str, _Ike] = {}
    dumps: dict[str, _Dump] = {}
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        thread, group, number, text = match.groups()
        if _START in text:  # its numbers begin anew
            sas, dumps = {}, {}
        if number is None:
            continue
        sa = sas.setdefault(number, _Ike(spis.get(number, b"")))
        if found := _DUMP.match(text):
            dumps[thread] = _Dump(found[1], int(found[2]))
        elif thread in dumps and (found := _OCTETS.match(text)):
            dump = dumps[thread]
            dump.octets += bytes.fromhex(found[1])
            if len(dump.octets) >= dump.length:
                yield from _dumped(sa, dump.what, bytes(dumps.pop(thread).octets[: dump.length]))
        else:
            yield from _said(sa, group, text)


def _dumped(sa: _Ike, what: str, octets: bytes) -> Iterator[IkeSa]:
    if what == _SPIS and any(octets[8:16]):
        sa.spis = octets[:16]
    elif what == "Sk_ei secret":
        sa.initiator_key = octets
    elif what == "Sk_er secret":
        if sa.spis and sa.proposal.startswith(f"{_GCM}_") and _fits(sa.initiator_key, octets):
            yield IkeSa(sa.spis[:8], sa.spis[8:], sa.initiator_key, octets)
        sa.spis = b""  # keys that come later are those of another IKE SA
    elif what in _KEYS:
        sa.child[_KEYS[what]] = octets


def _said(sa: _Ike, group: str, text: str) -> Iterator[EspSa]:
    if found := _PROPOSAL.match(text):
        sa.proposal = found[1]
    elif found := _PARSED.match(text):
        sa.answered = found[1] == "response"
    elif group == "CHD" and (found := _CIPHER.match(text)):
        sa.cipher, sa.child = found[1], {}
    elif group == "CHD" and (found := _DIRECTION.match(text)):
        sa.direction = found[1]
    elif group == "CHD" and (found := _SPI.match(text)):
        ours = (sa.direction == "outbound") == sa.answered
        key = sa.child.get("initiator" if ours else "responder", b"")
        if sa.cipher == _GCM and _fits(key):
            yield EspSa(IPv4Address(found[2]), IPv4Address(found[3]), int(found[1], 16), key)


def _fits(*keys: bytes) -> bool:
    return all(len(key) - SALT in AES for key in keys)


def read_session_keys(
    engine: Engine,
    nodes: Mapping[str, Container],
    spis: Mapping[str, Mapping[str, bytes]] = MappingProxyType({}),
) -> list[EspSa | IkeSa]:
    """The security associations that nodes had since they started, by the logs of their charon.

    `spis` are those of each node that its log may lack (`parse_charon`). Raises `TestbedError` where a log
    cannot be read.
    """
    found: dict[EspSa | IkeSa, None] = {}
    for name, container in nodes.items():
        lines = read_logs(engine, {name: container})
        texts = (each.line.text for each in lines if each.line.stream == "stderr")
        found |= dict.fromkeys(parse_charon(texts, spis.get(name, NO_SPIS)))
    return list(found)
