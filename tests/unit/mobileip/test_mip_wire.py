"""The codecs: round trips, the RFCs' figures, and another implementation's reading of the same bytes."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.mobileip.wire import agent_solicitation, checksum
from testbed.mobileip.wire.agent_advertisement import AgentAdvertisement, AgentFlag, MobilityAgentExtension
from testbed.mobileip.wire.authentication import Authentication
from testbed.mobileip.wire.code import Code, accepted, describe, from_foreign_agent
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.extension import PADDING, Extension, decode_extensions, encode_extensions
from testbed.mobileip.wire.identification import SECOND, from_unix, unwrap
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag

addresses = st.integers(0, 2**32 - 1).map(IPv4Address)
lifetimes = st.integers(0, 0xFFFF)
identifications = st.integers(0, 2**64 - 1)
extensions = st.lists(
    st.one_of(
        st.just(Extension(0)),
        st.builds(Extension, st.sampled_from([32, 33, 34, *range(128, 256)]), st.binary(max_size=255)),
    ),
    max_size=5,
).map(tuple)
requests = st.builds(
    RegistrationRequest,
    st.integers(0, 255), lifetimes, addresses, addresses, addresses, identifications, extensions,
)  # fmt: skip
replies = st.builds(
    RegistrationReply, st.integers(0, 255), lifetimes, addresses, addresses, identifications, extensions
)


@st.composite
def advertisements(draw):
    routers = tuple(draw(st.lists(st.tuples(addresses, st.integers(-(2**31), 2**31 - 1)), max_size=4)))
    mobility = st.builds(
        MobilityAgentExtension, lifetimes, lifetimes, lifetimes, st.lists(addresses, max_size=4).map(tuple)
    )
    lengths = st.lists(st.integers(0, 32), min_size=len(routers), max_size=len(routers)).map(tuple)
    return AgentAdvertisement(
        draw(lifetimes),
        routers,
        draw(st.none() | mobility),
        draw(st.none() | lengths),
        draw(st.sampled_from([0, 16])),
        draw(st.none() | st.binary(max_size=255)),
    )


@given(requests)
def test_requests_come_back_as_they_were(request):
    assert RegistrationRequest.decode(request.encode()) == request


@given(replies)
def test_replies_come_back_as_they_were(reply):
    assert RegistrationReply.decode(reply.encode()) == reply


@given(advertisements())
def test_advertisements_come_back_as_they_were_and_are_even(advertisement):
    payload = advertisement.encode()
    assert AgentAdvertisement.decode(payload) == advertisement
    assert len(payload) % 2 == 0
    extensions = decode_extensions(payload, 8 + 8 * len(advertisement.routers), {16, 19, 24})
    assert [each.type for each in extensions].count(PADDING) <= 1


@given(st.one_of(requests.map(lambda m: m.encode()), replies.map(lambda m: m.encode())), st.data())
def test_a_cut_message_is_refused_or_ends_between_two_extensions(payload, data):
    cut = payload[: data.draw(st.integers(0, len(payload) - 1))]
    message = RegistrationRequest if payload[0] == 1 else RegistrationReply
    try:
        decoded = message.decode(cut)
    except WireError as error:
        assert error.reason == "truncated"
    else:
        assert len(cut) >= message.SIZE
        assert decoded.encode() == cut


@given(advertisements(), st.data())
def test_a_changed_bit_of_an_advertisement_is_noticed(advertisement, data):
    payload = bytearray(advertisement.encode())
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(WireError):
        AgentAdvertisement.decode(bytes(payload))


@given(st.binary(max_size=120))
def test_whatever_comes_only_wire_errors_are_raised(noise):
    readers = (
        RegistrationRequest.decode,
        RegistrationReply.decode,
        AgentAdvertisement.decode,
        agent_solicitation.check,
        lambda data: MobilityAgentExtension.decode(data),
        lambda data: Authentication.from_extension(Extension(32, data)),
        lambda data: RegistrationRequest.decode(b"\x01" + data),
        lambda data: RegistrationReply.decode(b"\x03" + data),
        lambda data: AgentAdvertisement.decode(b"\x09\x00" + _with_checksum(data)),
    )
    for read in readers:
        try:
            read(noise)
        except WireError as error:
            assert error.reason


def _with_checksum(data: bytes) -> bytes:
    body = b"\x09\x00\x00\x00" + data[2:]
    return checksum.internet_checksum(body).to_bytes(2, "big") + data[2:]


def test_the_request_is_laid_out_as_in_section_3_3():
    request = RegistrationRequest(
        RequestFlag.SIMULTANEOUS | RequestFlag.DECAPSULATION | RequestFlag.REVERSE_TUNNEL,
        1800,
        IPv4Address("10.0.1.100"),
        IPv4Address("10.0.1.2"),
        IPv4Address("192.0.2.7"),
        0x0102030405060708,
    )
    assert request.encode().hex() == "01a207080a0001640a000102c00002070102030405060708"
    assert [flag.name for flag in sorted(RequestFlag, reverse=True)] == [
        "SIMULTANEOUS", "BROADCAST", "DECAPSULATION", "MINIMAL", "GRE", "R", "REVERSE_TUNNEL", "X",
    ]  # fmt: skip  # the figure's S B D M G r T x


def test_the_reply_is_laid_out_as_in_section_3_4():
    reply = RegistrationReply(133, 600, IPv4Address("10.0.1.100"), IPv4Address("10.0.1.2"), 2**63)
    assert reply.encode().hex() == "038502580a0001640a0001028000000000000000"


def test_the_advertisement_is_laid_out_as_in_section_2_1():
    payload = AgentAdvertisement(
        3,
        ((IPv4Address("192.0.2.1"), 0),),
        MobilityAgentExtension(
            7,
            600,
            AgentFlag.REGISTRATION_REQUIRED | AgentFlag.FOREIGN_AGENT | AgentFlag.REVERSE_TUNNEL,
            (IPv4Address("203.0.113.9"),),
        ),
        (24,),
    ).encode()
    assert payload[:2] == b"\x09\x00" and payload[4:8] == b"\x01\x02\x00\x03"
    assert payload[8:16].hex() == "c000020100000000"
    assert payload[16:28].hex() == "100a000702589100cb007109"
    assert payload[28:] == b"\x13\x01\x18" + b"\0"  # prefix lengths, one-byte padding


# Names and numbers of RFC 5944 §3.4, RFC 3024 §3.4, RFC 2794 §5 and RFC 3519 §3.5, typed from the text.
CODES = {
    0: "accepted", 1: "accepted", 64: "fa", 65: "fa", 66: "fa", 67: "fa", 68: "fa", 69: "fa", 70: "fa",
    71: "fa", 72: "fa", 74: "fa", 75: "fa", 76: "fa", 77: "fa", 78: "fa", 79: "fa", 80: "fa", 81: "fa",
    82: "fa", 88: "fa", 96: "fa", 97: "fa", 98: "fa", 99: "fa", 194: "fa",
    128: "ha", 129: "ha", 130: "ha", 131: "ha", 132: "ha",
    133: "ha", 134: "ha", 135: "ha", 136: "ha", 137: "ha", 138: "ha", 139: "ha", 142: "ha",
    104: "fa", 105: "fa", 106: "fa", 108: "fa", 109: "fa", 144: "ha",
}  # fmt: skip


def test_the_codes_are_those_of_the_tables():
    assert {int(code) for code in Code} == set(CODES)
    for code, who in CODES.items():
        assert accepted(code) is (who == "accepted")
        assert from_foreign_agent(code) is (who == "fa")
    assert describe(133) == "ha-identification-mismatch" and describe(200) == "code-200"


def test_extensions_below_128_must_be_known_and_others_are_skipped():
    message = encode_extensions((Extension(200, b"xyz"), Extension(32, b"\0" * 20), Extension(128)))
    assert [each.type for each in decode_extensions(message, 0, {32})] == [200, 32, 128]
    with pytest.raises(WireError) as caught:
        decode_extensions(message, 0, {33})
    assert caught.value.reason == "unknown-extension"
    for kind in range(1, 128):
        with pytest.raises(WireError):
            decode_extensions(bytes((kind, 0)), 0, ())


def test_offsets_point_into_the_message():
    message = b"head" + encode_extensions((Extension(0), Extension(32, b"abcd"), Extension(140, b"")))
    for each in decode_extensions(message, 4, {32}):
        assert message[each.offset] == each.type
        assert message[each.offset : each.end] == each.encode()


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"", 0xFFFF), (b"\0\0", 0xFFFF), (b"\xff\xff", 0), (b"\x00\x01\xf2\x03\xf4\xf5\xf6\xf7", 0x220D)],
)
def test_checksums(data, expected):
    """The last one is the example of RFC 1071 §3: the sum is ddf2."""
    assert checksum.internet_checksum(data) == expected


@given(st.floats(0, 10**10), st.integers(-(2**40), 2**40))
def test_an_identification_is_unwrapped_near_the_clock(unix_time, distance):
    """Also beyond 2036, when the seconds of the field begin anew."""
    ours = from_unix(unix_time)
    theirs = ours + distance
    assert unwrap(theirs % 2**64, ours) == theirs


def test_ntp_time_counts_from_1900():
    assert from_unix(0) == 2_208_988_800 * SECOND
    assert from_unix(1.5) == 2_208_988_801 * SECOND + SECOND // 2


@pytest.fixture(scope="module")
def layers():
    return pytest.importorskip("scapy.all")


class TestScapy:
    """The same fields, read and written by scapy."""

    @given(request=requests)
    @settings(max_examples=25)
    def test_request(self, layers, request):
        read = layers.MobileIP(request.encode())[layers.MobileIPRRQ]
        assert (read.flags, read.lifetime, read.id) == (
            request.flags,
            request.lifetime,
            request.identification,
        )
        assert (read.homeaddr, read.haaddr, read.coaddr) == (
            str(request.home_address), str(request.home_agent), str(request.care_of_address),
        )  # fmt: skip
        written = layers.MobileIP(type=1) / layers.MobileIPRRQ(
            flags=request.flags, lifetime=request.lifetime, homeaddr=str(request.home_address),
            haaddr=str(request.home_agent), coaddr=str(request.care_of_address), id=request.identification,
        )  # fmt: skip
        assert bytes(written) == request.encode()[: RegistrationRequest.SIZE]

    @given(reply=replies)
    @settings(max_examples=25)
    def test_reply(self, layers, reply):
        read = layers.MobileIP(reply.encode())[layers.MobileIPRRP]
        assert (read.code, read.lifetime, read.id) == (reply.code, reply.lifetime, reply.identification)
        assert (read.homeaddr, read.haaddr) == (str(reply.home_address), str(reply.home_agent))

    @given(advertisement=advertisements())
    @settings(max_examples=25)
    def test_icmp_checksum(self, layers, advertisement):
        payload = advertisement.encode()
        assert layers.ICMP(payload).type == 9
        assert layers.checksum(payload) == 0
        blank = payload[:2] + b"\0\0" + payload[4:]
        assert layers.checksum(blank).to_bytes(2, "big") == payload[2:4]
        assert bytes(layers.ICMP(type=10)) == agent_solicitation.encode()
