"""Knocking at gateways: what is sent, what counts as an answer, and how long it takes."""

import json
import os
import socket
import struct
import threading
import time

import pytest

from testbed.node.knock import HEADER, IKE_SA_INIT, NOTIFY, RESPONSE, SA, answer, knock, main, request

SPI = bytes(range(1, 9))


def response(
    spi=SPI, *, payload=NOTIFY, exchange=IKE_SA_INIT, flags=RESPONSE, version=0x20, kind=14, extra=0
):
    body = struct.pack("!BxHBBH", 0, 8, 0, 0, kind)
    length = HEADER.size + len(body) + extra
    return HEADER.pack(spi, os.urandom(8), payload, version, exchange, flags, 0, length) + body


def test_scapy_reads_the_request():
    ikev2 = pytest.importorskip("scapy.contrib.ikev2")
    packet = ikev2.IKEv2(request(SPI))
    assert (packet.init_SPI, packet.resp_SPI, packet.exch_type) == (SPI, bytes(8), IKE_SA_INIT)
    assert packet.flags.Initiator and not packet.flags.Response and packet.length == len(request(SPI))
    proposal = packet[ikev2.IKEv2_SA].prop
    assert proposal.trans_nb == 4 and proposal.proto == 1
    found = []
    transform = proposal.trans
    while isinstance(transform, ikev2.IKEv2_Transform):
        found.append((transform.transform_type, transform.transform_id, transform.length))
        transform = transform.payload
    assert found == [(1, 2, 8), (2, 1, 8), (3, 1, 8), (4, 1, 8)]
    exchange = packet[ikev2.IKEv2_KE]
    assert exchange.group == 1 and len(exchange.ke) == 96
    assert len(packet[ikev2.IKEv2_Nonce].nonce) == 32


def test_what_counts_as_an_answer():
    assert answer(SPI, response()) == "NO_PROPOSAL_CHOSEN"
    assert answer(SPI, response(kind=16390)) == "COOKIE"
    assert answer(SPI, response(kind=9999)) == "notify 9999"
    assert answer(SPI, response(payload=SA)) == "accepted"
    for other in (
        b"",
        request(SPI),  # our own, sent back
        response(bytes(8)),
        response(exchange=35),
        response(flags=RESPONSE | 0x08),
        response(version=0x10),
        response(extra=4),
    ):
        assert answer(SPI, other) is None


@pytest.fixture
def responder():
    """Answers only the second request, to show that the first is repeated."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(10)

        asked = []

        def serve():
            first, _ = sock.recvfrom(4096)
            second, peer = sock.recvfrom(4096)
            assert first == second
            asked.append(first[:8].hex())
            sock.sendto(b"noise", peer)
            sock.sendto(response(second[:8]), peer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield sock.getsockname()[1], asked
        thread.join(10)


def test_it_asks_again_and_ends_with_the_last_answer(responder):
    port, asked = responder
    began = time.monotonic()
    answers = knock(["127.0.0.1"], 50, 0.1, port)
    assert answers == {"127.0.0.1": {"spi": asked[0], "answer": "NO_PROPOSAL_CHOSEN"}}
    assert time.monotonic() - began < 4


def test_nobody_answers(capsys):
    main(["127.0.0.1", "0.0.0.1", "--tries", "2", "--every", "20"])
    answers = json.loads(capsys.readouterr().out)
    assert {address: one["answer"] for address, one in answers.items()} == {
        "127.0.0.1": None,
        "0.0.0.1": None,
    }
    assert len({one["spi"] for one in answers.values()}) == 2


def test_who_cannot_ask_has_not_been_refused(capsys):
    """A broadcast address takes permission that the program does not ask for: the kernel refuses to send."""
    with pytest.raises(SystemExit) as caught:
        main(["255.255.255.255", "--tries", "1", "--every", "1"])
    assert caught.value.code == 1
    assert "cannot ask" in capsys.readouterr().err
