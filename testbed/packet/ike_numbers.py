"""The numbers of IKEv2 by the documents that assign them, and those that a message uses.

After the IANA registry "Internet Key Exchange Version 2 (IKEv2) Parameters". Beside each payload and notify
message is the short name that charon's log has for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import Final

from testbed.packet.contents import contents
from testbed.packet.layers import Ike
from testbed.packet.pcap import Frame

_HEADER: Final = Struct("!QQBBBBII")  # RFC 7296 §3.1
_GENERIC: Final = Struct("!BBH")  # RFC 7296 §3.2
_NOTIFY: Final = Struct("!BBH")  # RFC 7296 §3.10
_NOTIFICATION, _ENCRYPTED = 41, 46


@dataclass(frozen=True, slots=True)
class Numbers:
    """What one document assigns."""

    exchanges: frozenset[int] = frozenset()
    payloads: dict[int, str] = field(default_factory=dict)
    """Payload type → charon's short name."""
    notifies: dict[int, str] = field(default_factory=dict)
    """Notify message type → charon's short name."""


DOCUMENTS: Final[dict[str, Numbers]] = {
    "RFC 7296": Numbers(
        frozenset((34, 35, 36, 37)),
        {
            33: "SA", 34: "KE", 35: "IDi", 36: "IDr", 37: "CERT", 38: "CERTREQ", 39: "AUTH", 40: "No",
            41: "N", 42: "D", 43: "V", 44: "TSi", 45: "TSr", 46: "E", 47: "CP", 48: "EAP",
        },
        {
            1: "CRIT", 4: "INVAL_IKE_SPI", 5: "INVAL_MAJOR", 7: "INVAL_SYN", 9: "INVAL_MID", 11: "INVAL_SPI",
            14: "NO_PROP", 17: "INVAL_KE", 24: "AUTH_FAILED", 34: "SINGLE_PAIR", 35: "NO_ADD_SAS",
            36: "INT_ADDR_FAIL", 37: "FAIL_CP_REQ", 38: "TS_UNACCEPT", 39: "INVAL_SEL", 43: "TEMP_FAIL",
            44: "NO_CHILD_SA", 16384: "INIT_CONTACT", 16385: "SET_WINSIZE", 16386: "ADD_TS_POSS",
            16387: "IPCOMP_SUPP", 16388: "NATD_S_IP", 16389: "NATD_D_IP", 16390: "COOKIE",
            16391: "USE_TRANSP",
            16392: "HTTP_CERT_LOOK", 16393: "REKEY_SA", 16394: "ESP_TFC_PAD_N", 16395: "NON_FIRST_FRAG",
        },
    ),
    "RFC 4555": Numbers(
        notifies={
            40: "UNACCEPT_ADDR", 41: "UNEXPECTED_NATD", 16396: "MOBIKE_SUP", 16397: "ADD_4_ADDR",
            16398: "ADD_6_ADDR", 16399: "NO_ADD_ADDR", 16400: "UPD_SA_ADDR", 16401: "COOKIE2",
            16402: "NO_NATS",
        }
    ),
    "RFC 4739": Numbers(notifies={16404: "MULT_AUTH", 16405: "AUTH_FOLLOWS"}),
    "RFC 5685": Numbers(notifies={16406: "REDIR_SUP", 16407: "REDIR", 16408: "REDIR_FROM"}),
    "RFC 5998": Numbers(notifies={16417: "EAP_ONLY"}),
    "RFC 6023": Numbers(notifies={16418: "CHDLESS_SUP"}),
    "RFC 6311": Numbers(notifies={16420: "MSG_ID_SYN_SUP", 16422: "MSG_ID_SYN"}),
    "RFC 7383": Numbers(payloads={53: "EF"}, notifies={16430: "FRAG_SUP"}),
    "RFC 7427": Numbers(notifies={16431: "HASH_ALG"}),
}  # fmt: skip


def beyond(
    documents: Iterable[str], frames: Iterable[Frame], logged: Iterable[str]
) -> tuple[int, dict[str, None]]:
    """How many messages of IKE were looked at, and what of them these documents do not assign.

    `frames` show what is in clear, `logged` are the payload lists that charon wrote to its log, such as
    `IKE_AUTH request: IDi N(INIT_CONTACT) AUTH`.
    """
    known = [DOCUMENTS[one] for one in documents]
    looked = 0
    found: dict[str, None] = {}
    for frame in frames:
        for exchange, payloads, notifies in _messages(frame):
            looked += 1
            if not any(exchange in one.exchanges for one in known):
                found[f"exchange type {exchange}"] = None
            found |= {
                f"payload type {kind}": None
                for kind in payloads
                if not any(kind in one.payloads for one in known)
            }
            found |= {
                f"notify message {kind}": None
                for kind in notifies
                if not any(kind in one.notifies for one in known)
            }
    payload_names = {name for one in known for name in one.payloads.values()}
    notify_names = {name for one in known for name in one.notifies.values()}
    for line in logged:
        looked += 1
        for word in line.partition(": ")[2].split():
            name, inside = re.fullmatch(r"([^(]*)(?:\((.*)\))?", word).groups()  # type: ignore[union-attr]
            if name == "N" and inside not in notify_names:
                found[f"notify message {inside}"] = None
            elif name not in payload_names and name not in ("CPRQ", "CPRP", "CPS", "CPA"):
                found[f"payload {name}"] = None
    return looked, found


def _messages(frame: Frame) -> Iterator[tuple[int, list[int], list[int]]]:
    """Exchange type, payload types and notify messages of each message in a frame, as far as in clear."""
    for layer, raw in contents(frame, Ike):
        data = raw[4:] if isinstance(layer, Ike) and layer.encapsulated else raw
        if len(data) < _HEADER.size:
            continue
        _, _, kind, _, exchange, *_ = _HEADER.unpack_from(data)
        payloads, notifies, at = [], [], _HEADER.size
        while kind and at + _GENERIC.size <= len(data):
            following, _, length = _GENERIC.unpack_from(data, at)
            payloads.append(kind)
            if kind == _NOTIFICATION and at + _GENERIC.size + _NOTIFY.size <= len(data):
                notifies.append(_NOTIFY.unpack_from(data, at + _GENERIC.size)[2])
            if kind in (_ENCRYPTED, 53) or length < _GENERIC.size:
                break  # what follows is inside
            kind, at = following, at + length
        yield exchange, payloads, notifies


_LOGGED: Final = re.compile(r"\[ENC\] <[^>]*> (?:parsed|generating) (\S+) (request|response) \d+ \[ (.*) \]")


def payload_lists(lines: Iterable[str]) -> list[str]:
    """The different payload lists in charon's log, as `beyond` takes them, in the order they came."""
    found = (match for line in lines if (match := _LOGGED.search(line)))
    return list(dict.fromkeys(f"{one[1]} {one[2]}: {one[3]}" for one in found))
