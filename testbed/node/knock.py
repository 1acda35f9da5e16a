"""Who answers IKE here? An IKE_SA_INIT request to UDP port 500 of each address (RFC 7296 §1.2).

    python3 -m testbed.node.knock 203.0.113.2 203.0.113.3
    {"203.0.113.2": {"spi": "0f1e2d3c4b5a6978", "answer": "NO_PROPOSAL_CHOSEN"},
     "203.0.113.3": {"spi": "8796a5b4c3d2e1f0", "answer": null}}

An answer is an IKE response to our SPI, whatever it says; null: none came, which says nothing of why: by the
SPI captures show whether the request arrived, and whether the gateway sent an answer. RFC 8247 forbids what
the request proposes, so a responder declines and keeps no state: repeated knocking fills no table of
half-open SAs.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import socket
import struct
import time
from contextlib import suppress

PORT = 500
HEADER = struct.Struct("!8s8s4BII")  # SPIs, next payload, version, exchange, flags, message id, length
VERSION, IKE_SA_INIT, INITIATOR, RESPONSE = 0x20, 34, 0x08, 0x20
SA, KE, NONCE, NOTIFY = 33, 34, 40, 41
TRANSFORMS = ((1, 2), (2, 1), (3, 1), (4, 1))
"""Type and number: encryption DES, PRF and integrity HMAC-MD5, Diffie-Hellman group 1 of 768 bits."""
GROUP, PUBLIC = 1, 96
NOTIFIES = {7: "INVALID_SYNTAX", 14: "NO_PROPOSAL_CHOSEN", 17: "INVALID_KE_PAYLOAD", 16390: "COOKIE"}


def request(spi: bytes) -> bytes:
    """An IKE_SA_INIT request: header, SA with one proposal, KE, Nonce (RFC 7296 §3)."""
    transforms = b"".join(
        struct.pack("!BxHBxH", 3 if (kind, number) != TRANSFORMS[-1] else 0, 8, kind, number)
        for kind, number in TRANSFORMS
    )
    proposal = struct.pack("!BxH4B", 0, 8 + len(transforms), 1, 1, 0, len(TRANSFORMS)) + transforms
    public = bytes([os.urandom(1)[0] & 0x7F]) + os.urandom(PUBLIC - 1)  # below the group's prime
    payloads = (
        _payload(KE, proposal)
        + _payload(NONCE, struct.pack("!Hxx", GROUP) + public)
        + _payload(0, os.urandom(32))
    )
    header = HEADER.pack(spi, bytes(8), SA, VERSION, IKE_SA_INIT, INITIATOR, 0, HEADER.size + len(payloads))
    return header + payloads


def _payload(following: int, body: bytes) -> bytes:
    return struct.pack("!BxH", following, 4 + len(body)) + body


def answer(spi: bytes, data: bytes) -> str | None:
    """What a response to the request with this SPI says, None if it is none."""
    if len(data) < HEADER.size:
        return None
    initiator, _, payload, version, exchange, flags, number, length = HEADER.unpack_from(data)
    ours = initiator == spi and (version >> 4, exchange, number, length) == (2, IKE_SA_INIT, 0, len(data))
    if not ours or flags & (RESPONSE | INITIATOR) != RESPONSE:
        return None
    if payload == NOTIFY and length >= HEADER.size + 8:
        kind = int.from_bytes(data[HEADER.size + 6 : HEADER.size + 8])
        return NOTIFIES.get(kind, f"notify {kind}")
    return "accepted" if payload == SA else f"payload {payload}"


def knock(
    addresses: list[str], tries: int, every: float, port: int = PORT
) -> dict[str, dict[str, str | None]]:
    """Ask all addresses at once, again every so many seconds; done as soon as each has answered.

    Raises OSError where this node cannot even ask: that it got no answer would say nothing.
    """
    spis = {address: os.urandom(8) for address in addresses}
    requests = {address: request(spi) for address, spi in spis.items()}
    answers: dict[str, str | None] = dict.fromkeys(addresses)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(tries):
            for address in addresses:
                if answers[address] is None:
                    sock.sendto(requests[address], (address, port))
            due = time.monotonic() + every
            while None in answers.values() and (left := due - time.monotonic()) > 0:
                if not select.select([sock], [], [], left)[0]:
                    break
                with suppress(OSError):  # an ICMP error about a request sent before
                    data, (sender, _) = sock.recvfrom(4096)
                    if sender in spis:
                        answers[sender] = answers[sender] or answer(spis[sender], data)
            if None not in answers.values():
                break
    return {address: {"spi": spis[address].hex(), "answer": answers[address]} for address in addresses}


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="testbed.node.knock")
    parser.add_argument("addresses", nargs="+", metavar="ADDRESS")
    parser.add_argument("--tries", type=int, default=4)
    parser.add_argument("--every", type=float, default=500, help="milliseconds between two tries")
    options = parser.parse_args(arguments)
    try:
        print(json.dumps(knock(options.addresses, options.tries, options.every / 1000)))
    except OSError as error:
        parser.exit(1, f"cannot ask: {error}\n")


if __name__ == "__main__":
    main()
