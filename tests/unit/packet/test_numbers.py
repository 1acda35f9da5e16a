"""Which numbers IKE and Mobile IP messages use, and which documents assign them; scapy and tshark agree."""

import subprocess

import pytest
from scapy.contrib.ikev2 import IKEv2, IKEv2_Nonce, IKEv2_Notify, IKEv2NotifyMessageTypes
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from testbed.packet import ike_numbers, mip_numbers
from testbed.packet.contents import contents
from testbed.packet.ike_numbers import DOCUMENTS, payload_lists
from testbed.packet.layers import Ike, MobileIp
from testbed.packet.pcap import RAW_IP, Frame, write_pcap

ALL = tuple(DOCUMENTS)
AGENTS = tuple(dict.fromkeys((*mip_numbers.MESSAGES, *mip_numbers.EXTENSIONS)))


def frame(packet) -> Frame:
    data = bytes(packet)
    return Frame(0, RAW_IP, data, len(data))


def init(*notifies: int, exchange: int = 34):
    message = IKEv2(init_SPI=b"abcdefgh", exch_type=exchange, flags="Initiator", next_payload="Nonce")
    message = message / IKEv2_Nonce(nonce=b"n" * 32)
    for number in notifies:
        message = message / IKEv2_Notify(type=number)
    return message


def on_500(message):
    return IP(src="198.51.100.70", dst="203.0.113.2") / UDP(sport=500, dport=500) / message


def on_4500(message):
    whole = UDP(sport=4500, dport=4500) / Raw(bytes(4) + bytes(message))
    return IP(src="198.51.100.70", dst="203.0.113.2") / whole


# IKE


@pytest.mark.parametrize("around", [on_500, on_4500, lambda one: IP(proto=4) / on_500(one)])
def test_a_message_is_found_whatever_is_around_it(around) -> None:
    message = bytes(init(16388, 16389))
    ((layer, raw),) = contents(frame(around(message)), Ike)
    assert isinstance(layer, Ike) and raw.removeprefix(bytes(4)) == message


def test_what_documents_assign_is_not_beyond_them() -> None:
    frames = [frame(on_500(init(16388, 16389))), frame(on_4500(init(16430)))]
    assert ike_numbers.beyond(["RFC 7296", "RFC 7383"], frames, []) == (2, {})
    assert ike_numbers.beyond(["RFC 7296"], frames, []) == (2, {"notify message 16430": None})


@pytest.mark.parametrize(
    ("message", "beyond"),
    [
        (init(40961), "notify message 40961"),
        (init(exchange=32), "exchange type 32"),  # IKEv1's quick mode
        (IKEv2(exch_type=34, next_payload=200) / Raw(b"\0\0\0\4"), "payload type 200"),
    ],
)
def test_what_no_document_assigns(message, beyond) -> None:
    assert ike_numbers.beyond(ALL, [frame(on_500(message))], [])[1] == {beyond: None}


def test_what_is_encrypted_is_not_read() -> None:
    sealed = IKEv2(exch_type=35, next_payload=46) / Raw(bytes([200, 0, 0, 60]) + b"\xa0\x01" * 28)
    assert ike_numbers.beyond(["RFC 7296"], [frame(on_500(sealed))], []) == (1, {})


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_a_message_that_is_cut_short_is_read_as_far_as_it_goes(cut) -> None:
    looked, found = ike_numbers.beyond(ALL, [frame(on_500(Raw(bytes(init(16388))[:cut])))], [])
    assert looked <= 1 and not {one for one in found if not one.startswith(("payload", "exchange"))}


LOG = [
    "12[ENC] <1> parsed IKE_AUTH request 1 [ IDi N(INIT_CONTACT) AUTH CPRQ(ADDR) SA TSi TSr N(EAP_ONLY) ]",
    "13[ENC] <clients|1> generating IKE_AUTH response 1 [ IDr AUTH CPRP(ADDR) SA TSi TSr ]",
    "13[ENC] <clients|1> generating IKE_AUTH response 1 [ IDr AUTH CPRP(ADDR) SA TSi TSr ]",
    "11[NET] sending packet",
    "07[ENC] <clients|4> parsed INFORMATIONAL request 2 [ N(UPD_SA_ADDR) N(NATD_S_IP) N((40961)) ]",
]


def test_what_charon_wrote_to_its_log() -> None:
    lists = payload_lists(LOG)
    assert [one.partition(":")[0] for one in lists] == [
        "IKE_AUTH request",
        "IKE_AUTH response",
        "INFORMATIONAL request",
    ]
    assert ike_numbers.beyond(["RFC 7296", "RFC 5998", "RFC 4555"], [], lists)[1] == {
        "notify message (40961)": None
    }
    assert list(ike_numbers.beyond(["RFC 7296", "RFC 5998"], [], lists)[1]) == [
        "notify message UPD_SA_ADDR",
        "notify message (40961)",
    ]
    assert ike_numbers.beyond(["RFC 7296"], [], ["IKE_AUTH request: IDi XYZ(1)"])[1] == {"payload XYZ": None}


def test_scapy_knows_every_notify_message() -> None:
    ours = {number for one in DOCUMENTS.values() for number in one.notifies}
    assert ours <= set(IKEv2NotifyMessageTypes)


def test_tshark_reads_the_same_numbers(tmp_path) -> None:
    messages = [init(16388, 16389, 16430, 40961), init(16396, exchange=34), init(exchange=37)]
    frames = [frame(on_500(one)) for one in messages]
    write_pcap(tmp_path / "ike.pcap", RAW_IP, frames)
    fields = ["isakmp.exchangetype", "isakmp.typepayload", "isakmp.notify.msgtype"]
    done = subprocess.run(
        ["tshark", "-r", tmp_path / "ike.pcap", "-T", "fields", *(x for one in fields for x in ("-e", one))],
        check=True,
        capture_output=True,
        text=True,
    )
    for line, one in zip(done.stdout.splitlines(), frames, strict=True):
        exchange, kinds, notifies = (
            [int(number) for number in field.split(",") if number] for field in line.split("\t")
        )
        ((number, payloads, types),) = ike_numbers._messages(one)
        assert ([number], payloads, types) == (exchange, kinds, notifies)


# Mobile IP

REQUEST = b"\1\2\2\x58" + bytes(20)
AUTHENTICATION = b"\x20\x14" + bytes(20)


def mip(message: bytes) -> Frame:
    return frame(IP(src="10.0.250.1", dst="10.0.1.2") / UDP(sport=434, dport=434) / Raw(message))


@pytest.mark.parametrize(
    ("message", "found"),
    [
        (REQUEST + AUTHENTICATION, []),
        (REQUEST + b"\x83\4a@b." + b"\0" + AUTHENTICATION, []),  # NAI, and a padding
        (REQUEST + b"\x24\1\0\4" + bytes(4), []),  # in the long format
        (REQUEST + b"\x3c\2??" + AUTHENTICATION, ["extension 60"]),
        (REQUEST + b"\xc8\2??", ["extension 200"]),
        (REQUEST + b"\x20\xff" + bytes(20), ["extension 32 that ends beyond the message"]),
        (REQUEST + b"\x20", ["extension 32 without a length"]),
        (b"\xc8hello", ["message type 200"]),
        (b"\3\0\2\x58" + bytes(16) + b"\x3c\0", ["extension 60"]),  # a reply
        (b"\7" + bytes(20), []),  # a revocation
    ],
)
def test_types_and_extensions(message, found) -> None:
    assert mip_numbers.beyond(AGENTS, [mip(message)]) == (1, dict.fromkeys(found))


def test_what_one_document_does_not_assign_another_may() -> None:
    nat = mip(REQUEST + b"\x90\6" + bytes(6))
    assert mip_numbers.beyond(["RFC 5944"], [nat])[1] == {"extension 144": None}
    assert mip_numbers.beyond(["RFC 5944", "RFC 3519"], [nat])[1] == {}


def test_tshark_reads_the_same_extensions(tmp_path) -> None:
    message = REQUEST + b"\x83\4a@b." + b"\x90\6" + bytes(6) + AUTHENTICATION
    write_pcap(tmp_path / "mip.pcap", RAW_IP, [mip(message)])
    done = subprocess.run(
        ["tshark", "-r", tmp_path / "mip.pcap", "-T", "fields", "-e", "mip.type", "-e", "mip.ext.type"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["1", "131,144,32"]
    assert mip_numbers.beyond([], [mip(message)])[1].keys() == {
        "message type 1",
        "extension 131",
        "extension 144",
        "extension 32",
    }
    ((layer, raw),) = contents(mip(message), MobileIp)
    assert raw == message and isinstance(layer, MobileIp)
