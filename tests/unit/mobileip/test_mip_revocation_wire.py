"""The messages of RFC 3543: round trips, the figures of its text, and tshark's reading of the same bytes."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mip_world import FA_CARE_OF, HOME_ADDRESS, HOME_AGENT, association
from test_mip_udp_tunnel_wire import found, read_by_tshark

from testbed.mobileip.core.association import sign
from testbed.mobileip.core.revocation import Stamps
from testbed.mobileip.wire.authentication import FOREIGN_HOME, MOBILE_HOME
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.extension import Extension
from testbed.mobileip.wire.identification import UNIX_EPOCH
from testbed.mobileip.wire.registration_request import RegistrationRequest
from testbed.mobileip.wire.revocation import (
    ACKNOWLEDGMENT,
    REVOCATION,
    SUPPORT,
    Revocation,
    RevocationAcknowledgment,
    RevocationSupport,
    later,
)

stamps = st.integers(0, 2**32 - 1)
addresses = stamps.map(IPv4Address)
supports = st.builds(RevocationSupport, stamps, st.booleans())
revocations = st.builds(Revocation, st.booleans(), st.booleans(), addresses, addresses, addresses, stamps)
acknowledgments = st.builds(RevocationAcknowledgment, st.booleans(), addresses, stamps)


@given(supports, st.binary(max_size=8))
def test_supports_come_back_as_they_were_also_longer_ones(support, more):
    data = support.encode().data
    assert RevocationSupport.decode(data + more) == support
    assert data[0] & 0x7F == data[1] == 0
    assert RevocationSupport.decode(bytes((data[0] | 0x7F, 0xFF)) + data[2:]) == support  # Reserved


@given(revocations | acknowledgments)
def test_messages_come_back_as_they_were(message):
    payload = message.encode()
    assert type(message).decode(payload) == message
    for size in range(len(payload)):
        with pytest.raises(WireError, match="truncated"):
            type(message).decode(payload[:size])


@given(revocations, st.integers(0, 2**8 - 1), st.integers(0, 2**14 - 1))
def test_reserved_bits_are_ignored(message, reserved, more):
    """§3.3: sent as 0, ignored when received."""
    payload = bytearray(message.encode())
    assert payload[1] == 0 and payload[2] & 0x3F == payload[3] == 0
    payload[1] = reserved
    payload[2:4] = (int.from_bytes(payload[2:4], "big") | more).to_bytes(2, "big")
    assert Revocation.decode(bytes(payload)) == message


@given(st.binary(max_size=60))
def test_whatever_comes_only_wire_errors_are_raised(noise):
    for read in (RevocationSupport.decode, Revocation.decode, RevocationAcknowledgment.decode):
        for data in (noise, b"\x07" + noise, b"\x0f" + noise):
            try:
                read(data)
            except WireError as error:
                assert error.reason


def test_they_are_laid_out_as_in_section_3():
    assert RevocationSupport(0x01020304, True).encode().encode().hex() == "8906800001020304"
    message = Revocation(True, False, HOME_ADDRESS, HOME_AGENT, FA_CARE_OF, 5)
    assert message.encode().hex() == "070080000a0001640a000102cb00710a00000005"
    assert Revocation(False, True, HOME_ADDRESS, HOME_AGENT, FA_CARE_OF, 5).encode()[2] == 0x40
    assert RevocationAcknowledgment(True, HOME_ADDRESS, 5).encode().hex() == "0f0080000a00016400000005"


@given(stamps, st.integers(1, 2**31 - 1))
def test_timestamps_are_ordered_although_they_begin_anew(stamp, distance):
    after = (stamp + distance) % 2**32
    assert later(after, stamp) and not later(stamp, after) and not later(stamp, stamp)


@given(
    st.lists(st.tuples(st.floats(0, 1e9), st.none() | st.integers(-(10**8), 10**8)), min_size=1, max_size=9)
)
def test_a_clock_that_goes_back_does_not_take_its_timestamps_along(steps):
    clock = Stamps(lambda now: now)
    last = None
    for now, ahead in steps:
        after = None if ahead is None else ((last or UNIX_EPOCH) + ahead) % 2**32
        stamp = clock.next(now, after)
        assert last is None or stamp == last or later(stamp, last)
        assert after is None or later(stamp, after)
        last = stamp


# tshark, which knows all three.


@pytest.mark.parametrize("by_home_agent", [False, True])
@pytest.mark.parametrize("inform", [False, True])
def test_tshark_reads_the_messages(tmp_path: Path, by_home_agent: bool, inform: bool) -> None:
    agents = association(HOME_AGENT, 600, b"between agents")
    request = RegistrationRequest(0, 60, HOME_ADDRESS, HOME_AGENT, FA_CARE_OF, 1)
    relayed = sign(request.encode(), MOBILE_HOME, association(HOME_AGENT))
    relayed = sign(relayed + RevocationSupport(77, inform).encode().encode(), FOREIGN_HOME, agents)
    message = Revocation(by_home_agent, inform, HOME_ADDRESS, HOME_AGENT, FA_CARE_OF, 78)
    answer = RevocationAcknowledgment(inform, HOME_ADDRESS, 78)
    signed = [sign(each.encode(), FOREIGN_HOME, agents) for each in (message, answer)]
    asked, revoked, acknowledged = read_by_tshark(tmp_path / "messages.pcap", relayed, *signed)
    assert found(asked, "mip.ext.type") == [str(MOBILE_HOME), str(SUPPORT), str(FOREIGN_HOME)]
    assert found(asked, "mip.ext.rev.i") == [str(int(inform))]
    assert found(asked, "mip.ext.rev.tstamp") == ["77"]
    assert found(revoked, "mip.type") == [str(REVOCATION)]
    assert found(revoked, "mip.rev.a") == [str(int(by_home_agent))]
    assert found(revoked, "mip.rev.i") == [str(int(inform))]
    assert found(revoked, "mip.homeaddr") == [str(HOME_ADDRESS)]
    assert found(revoked, "mip.rev.hda") == [str(HOME_AGENT)]
    assert found(revoked, "mip.rev.fda") == [str(FA_CARE_OF)]
    assert found(acknowledged, "mip.type") == [str(ACKNOWLEDGMENT)]
    assert found(acknowledged, "mip.ack.i") == [str(int(inform))]
    assert found(acknowledged, "mip.homeaddr") == [str(HOME_ADDRESS)]
    for packet in (revoked, acknowledged):
        assert found(packet, "mip.revid") == ["78"]
        assert found(packet, "mip.ext.type") == [str(FOREIGN_HOME)]
    assert not any("_ws.malformed" in packet for packet in (asked, revoked, acknowledged))


def test_the_types_are_those_of_the_text():
    """§7.1, §7.2."""
    assert (REVOCATION, ACKNOWLEDGMENT, SUPPORT) == (7, 15, 137)
    assert RevocationSupport.decode(Extension(SUPPORT, bytes(6)).data) == RevocationSupport(0)
