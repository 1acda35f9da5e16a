"""The parts of the cores that stand alone: authenticators, replay protection, timers, limits, bindings."""

from __future__ import annotations

import hmac
import re
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mip_world import CARE_OF, HOME_ADDRESS, HOME_AGENT, KEY, A, association, home_agent_config

from testbed.mobileip.core import counters
from testbed.mobileip.core.association import Associations, AuthenticationError, sign
from testbed.mobileip.core.home.bindings import Binding, BindingTable
from testbed.mobileip.core.home.config import HomeAgentConfig
from testbed.mobileip.core.home_agent import HomeAgent
from testbed.mobileip.core.limits import OncePer, TokenBucket
from testbed.mobileip.core.parameters import Advertising
from testbed.mobileip.core.replay import NonceReturner, Nonces, Stamper, Timestamps
from testbed.mobileip.core.security import ReplayProtection, SecurityAssociation
from testbed.mobileip.core.timers import Timers
from testbed.mobileip.wire.algorithm import Algorithm
from testbed.mobileip.wire.authentication import MOBILE_FOREIGN, MOBILE_HOME
from testbed.mobileip.wire.identification import LOW, SECOND, from_unix
from testbed.mobileip.wire.registration_request import RegistrationRequest


@pytest.mark.parametrize(
    ("key", "data", "digest"),
    [
        (b"\x0b" * 16, b"Hi There", "9294727a3638bb1c13f48ef8158bfc9d"),
        (b"Jefe", b"what do ya want for nothing?", "750c783e6ab0b503eaa86e310a5db738"),
        (b"\xaa" * 16, b"\xdd" * 50, "56be34521d144c88dbb8c733f0e8b3f6"),
    ],
)
def test_hmac_md5_gives_the_digests_of_rfc_2104(key, data, digest):
    assert Algorithm.HMAC_MD5.authenticator(key, data).hex() == digest


@pytest.mark.parametrize(
    ("key", "data", "digest"),
    [
        (b"\x0b" * 32, b"Hi There", "198a607eb44bfbc69903a0f1cf2bbdc5"),
        (
            b"Jefe" * 8,
            b"what do ya want for nothing?",
            "167f928588c5cc2eef8e3093caa0e87c",
        ),
        (b"\xaa" * 32, b"\xdd" * 50, "cdcb1220d1ecccea91e53aba3092f962"),
        (bytes(range(1, 33)), b"\xcd" * 50, "372efcf9b40b35c2115b1346903d2ef4"),
    ],
)
def test_hmac_sha_256_gives_the_digests_of_rfc_4868(key, data, digest):
    assert Algorithm.HMAC_SHA_256.authenticator(key, data).hex() == digest


@given(st.binary(min_size=1, max_size=200), st.binary(max_size=300))
def test_hmac_is_what_the_standard_library_makes(key, data):
    """RFC 2104: keys shorter than a block, as long, and longer."""
    assert Algorithm.HMAC_MD5.authenticator(key, data) == hmac.digest(key, data, "md5")
    assert Algorithm.HMAC_SHA_256.authenticator(key, data) == hmac.digest(key, data, "sha256")[:16]


def test_a_value_shows_and_compares_itself_as_a_dataclass_does():
    known = SecurityAssociation(HOME_ADDRESS, 300, b"key")
    assert repr(known) == (
        f"SecurityAssociation(peer={HOME_ADDRESS!r}, spi=300, algorithm={Algorithm.HMAC_MD5!r}, "
        f"replay={ReplayProtection.TIMESTAMPS!r})"
    )
    assert known == replace(known) and hash(known) == hash(replace(known))
    assert known != replace(known, spi=301)


def test_keyed_md5_is_prefix_and_suffix():
    authenticator = Algorithm.KEYED_MD5.authenticator
    assert authenticator(b"", b"abc").hex() == "900150983cd24fb0d6963f7d28e17f72"  # RFC 1321 A.5
    assert authenticator(b"a", b"b") == authenticator(b"", b"aba")


REQUEST = RegistrationRequest(0, 60, HOME_ADDRESS, HOME_AGENT, CARE_OF, 1)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_signature_holds_until_any_bit_changes(algorithm):
    own = association(HOME_ADDRESS, 300, KEY * 2, algorithm)
    table = Associations((own,))
    payload = sign(REQUEST.encode(), MOBILE_HOME, own)
    assert len(payload) == RegistrationRequest.SIZE + 2 + 4 + 16

    def check(payload: bytes) -> SecurityAssociation:
        extensions = RegistrationRequest.decode(payload).extensions
        return table.authenticate(payload, extensions, MOBILE_HOME, HOME_ADDRESS)

    assert check(payload) is own
    for position in range(1, len(payload)):
        changed = bytearray(payload)
        changed[position] ^= 0x40
        with pytest.raises(Exception) as caught:
            check(bytes(changed))
        assert isinstance(caught.value, AuthenticationError) or position in (24, 25)  # its type, its length


def test_what_follows_the_extension_is_not_covered_and_what_precedes_it_is():
    own, other = association(HOME_ADDRESS), association(HOME_ADDRESS, 257, b"other")
    payload = sign(sign(REQUEST.encode(), MOBILE_HOME, own), MOBILE_FOREIGN, other)
    extensions = RegistrationRequest.decode(payload).extensions
    assert Associations((own,)).authenticate(payload, extensions, MOBILE_HOME, HOME_ADDRESS) is own
    assert Associations((other,)).authenticate(payload, extensions, MOBILE_FOREIGN, HOME_ADDRESS) is other


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (REQUEST.encode(), "missing-authentication"),
        (
            sign(sign(REQUEST.encode(), 32, association(HOME_ADDRESS)), 32, association(HOME_ADDRESS)),
            "repeated-authentication",
        ),
        (sign(REQUEST.encode(), 32, association(HOME_ADDRESS, 999)), "unknown-spi"),
        (sign(REQUEST.encode(), 32, association(HOME_ADDRESS, key=b"wrong")), "bad-authenticator"),
        (REQUEST.encode() + b"\x20\x02\x00\x00", "bad-authenticator"),
        (REQUEST.encode() + b"\x20\x04\x00\x00\x01\x00", "bad-authenticator"),
    ],
)
def test_authentication_fails_for_a_reason(payload, reason):
    extensions = RegistrationRequest.decode(payload).extensions
    with pytest.raises(AuthenticationError) as caught:
        Associations((association(HOME_ADDRESS),)).authenticate(payload, extensions, 32, HOME_ADDRESS)
    assert caught.value.reason == reason


def test_a_context_is_chosen_by_spi_else_the_first():
    first, second = association(HOME_ADDRESS, 300), association(HOME_ADDRESS, 301)
    table = Associations((first, second))
    assert table.choose(HOME_ADDRESS) is first
    assert table.choose(HOME_ADDRESS, 301) is second
    assert table.choose(HOME_ADDRESS, 999) is first
    assert table.choose(HOME_AGENT) is None
    with pytest.raises(ValueError, match="SPI 300"):
        Associations((first, association(HOME_ADDRESS, 300, b"k")))


@pytest.mark.parametrize(
    "make",
    [
        lambda: association(HOME_ADDRESS, 255),
        lambda: association(HOME_ADDRESS, 2**32),
        lambda: association(HOME_ADDRESS, key=b""),
        lambda: association(HOME_ADDRESS, algorithm=Algorithm.HMAC_SHA_256),  # with a key of 16 bytes
        lambda: home_agent_config(lifetime=0),
        lambda: home_agent_config(lifetime=65536),
        lambda: home_agent_config(replay_tolerance=0),
        lambda: home_agent_config(home_interface=None),  # but advertising
        lambda: Advertising(interval=0.0),
        lambda: Advertising(interval=10, lifetime=3),
        lambda: home_agent_config(simultaneous=0),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(make):
    with pytest.raises(ValueError):
        make()


def test_a_key_is_not_shown():
    assert KEY.hex() not in repr(association(HOME_ADDRESS)) and repr(KEY) not in repr(
        association(HOME_ADDRESS)
    )
    assert isinstance(home_agent_config(), HomeAgentConfig)


# Replay protection


@given(st.lists(st.floats(0, 1e9), min_size=2, max_size=50), st.integers())
def test_identifications_only_grow_whatever_the_clock_does(times, seed):
    stamper = Stamper(Random(seed))
    fields = [stamper.next(1.7e9 + time / 1e3) for time in times]
    assert fields == sorted(set(fields))
    assert len({field & LOW for field in fields[-2:]}) == 2


def test_an_identification_is_the_time():
    assert abs(Stamper(Random(1)).next(1.79e9) - from_unix(1.79e9)) < 2**10


def test_what_the_clock_does_not_give_of_an_identification_is_random():
    stamps = {Stamper(Random(seed)).next(1.79e9) - from_unix(1.79e9) for seed in range(100)}
    assert len(stamps) > 80 and max(stamps) < 2**10


@pytest.mark.parametrize("year", [2026, 2036.1, 2172.3])  # before and after both wraps of the field
@pytest.mark.parametrize("skew", [-86400.0, -8, -6.9, 0, 6.9, 8, 86400 * 365])
def test_a_timestamp_is_fresh_within_the_tolerance_and_133_brings_it_there(year, skew):
    now = (year - 1970) * 365.2425 * 86400
    guard, stamper = Timestamps(7), Stamper(Random(1))
    field = stamper.next(now + skew)
    assert guard.fresh("mn", field, now) is (abs(skew) < 7)
    corrected = guard.reply("mn", field, now, mismatch=True)
    assert corrected & LOW == field & LOW
    stamper.replied(corrected, now + skew, mismatch=True)
    assert guard.fresh("mn", stamper.next(now + skew), now)
    assert abs(stamper.offset + skew) <= 0.6


def test_nothing_accepted_is_fresh_again_nor_what_is_older():
    guard = Timestamps(7)
    now = 1.79e9
    field = from_unix(now) % 2**64
    assert guard.fresh("mn", field, now)
    guard.accept("mn", field, now)
    assert not guard.fresh("mn", field, now)
    assert not guard.fresh("mn", field - 1, now)
    assert guard.fresh("mn", field + 1, now)
    assert guard.fresh("other", field, now)
    assert not guard.fresh("mn", field + 8 * SECOND, now)


@given(st.lists(st.sampled_from(["lost", "reply lost", "heard", "replay", "restart"])), st.integers())
def test_nonces_synchronise_themselves_and_none_is_taken_twice(steps, seed):
    """Whatever is lost or replayed, a request after a reply is fresh; after a restart of both, the second."""
    guard, node, taken, before = Nonces(Random(seed)), NonceReturner(Random(seed + 1)), set(), []

    def ask(field: int) -> tuple[bool, int]:
        fresh = guard.fresh("mn", field, 0.0)
        if fresh:
            assert field not in taken, "accepted twice"
            taken.add(field)
            guard.accept("mn", field, 0.0)
        answer = guard.reply("mn", field, 0.0, mismatch=not fresh)
        assert answer & LOW == field & LOW
        return fresh, answer

    for step in [*steps, "heard"]:
        if step == "restart":
            kept, guard = guard.record("mn"), Nonces(Random(seed + len(before)))
            if kept is not None:
                guard.restore("mn", kept)
            continue
        if step == "replay":
            for field in before[-3:]:
                ask(field)
            continue
        field = node.next(0.0)
        assert not before or field & LOW != before[-1] & LOW
        before.append(field)
        if step == "lost":
            continue
        fresh, answer = ask(field)
        if step == "heard":
            node.replied(answer, 0.0, mismatch=not fresh)
            assert answer >> 32 != field >> 32
            fresh, answer = ask(node.next(0.0))
            assert fresh
            node.replied(answer, 0.0, mismatch=False)


# Timers


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("set"), st.integers(0, 5), st.integers(0, 40)),
            st.tuples(st.just("cancel"), st.integers(0, 5), st.just(0)),
            st.tuples(st.just("pop"), st.just(0), st.integers(0, 40)),
        ),
        max_size=300,
    )
)
def test_timers_do_what_a_dictionary_would(steps):
    timers: Timers[int] = Timers()
    model: dict[int, float] = {}
    for step, key, when in steps:
        if step == "set":
            timers.set(key, when)
            model[key] = when
        elif step == "cancel":
            timers.cancel(key)
            model.pop(key, None)
        else:
            due = {key for key, at in model.items() if at <= when}
            popped = timers.pop_due(when)
            assert set(popped) == due and len(popped) == len(due)
            assert [model[key] for key in popped] == sorted(model[key] for key in popped)
            for key in due:
                del model[key]
        assert timers.next() == min(model.values(), default=None)
        assert len(timers) == len(model)
        assert all(
            timers.get(key) == model.get(key) and (key in timers) is (key in model) for key in range(6)
        )


def test_forgotten_and_moved_deadlines_take_no_room_for_ever():
    timers: Timers[int] = Timers()
    for step in range(20_000):
        timers.set(step, 1e9 - step)
        timers.cancel(step)
        timers.set(-1, 1e9 - step)
        timers.set(-1, 2e9)
    assert len(timers._heap) < 200


# Limits


def test_once_per_period_and_key_within_a_bounded_memory():
    limit = OncePer(1.0, capacity=3)
    assert limit.allow("a", 0) and not limit.allow("a", 0.9) and limit.allow("a", 1.0)
    assert limit.allow("b", 1.1) and limit.allow("c", 1.2) and not limit.allow("d", 1.3)
    assert limit.allow("d", 2.0)


def test_a_bucket_fills_slowly():
    bucket = TokenBucket(2.0, 3.0)
    assert [bucket.allow(0.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.allow(0.5) for _ in range(2)] == [True, False]
    assert sum(bucket.allow(100.0) for _ in range(9)) == 3


# Bindings


def test_bindings_are_retained_replaced_removed_and_expire():
    table = BindingTable()
    a, b = A("192.0.2.1"), A("192.0.2.2")
    table.add(HOME_ADDRESS, Binding(a, 1, 0, 10, 0.0), retain=False)
    table.add(HOME_ADDRESS, Binding(b, 2, 0, 30, 0.0), retain=True)
    assert table.care_of_addresses(HOME_ADDRESS) == (a, b) and table.next_expiry() == 10
    assert table.expire(9.99) == [] and table.expire(10) == [(HOME_ADDRESS, a)]
    assert HOME_ADDRESS in table and table.care_of_addresses(HOME_ADDRESS) == (b,)
    table.add(HOME_ADDRESS, Binding(a, 3, 0, 0xFFFF, 10.0), retain=False)
    assert table.care_of_addresses(HOME_ADDRESS) == (a,) and table.next_expiry() is None  # for ever
    table.remove(HOME_ADDRESS, b)
    table.remove(HOME_ADDRESS, a)
    assert HOME_ADDRESS not in table and len(table) == 0
    table.remove(HOME_ADDRESS)


@pytest.mark.parametrize(
    ("told", "door", "room", "shared"),
    [
        (
            counters.FOREIGN_AGENT,
            "foreign_agent",
            "foreign",
            ("advertiser", "discards", "keepalive", "revocation"),
        ),
        (counters.HOME_AGENT, "home_agent", "home", ("advertiser", "discards", "revocation")),
        (counters.MOBILE_NODE, "mobile_node", "mobile", ("discards", "keepalive")),
    ],
)
def test_what_is_counted_by_name_is_told_from_the_beginning(told, door, room, shared):
    core = Path(counters.__file__).parent
    files = [*(core / f"{one}.py" for one in (door, *shared)), *(core / room).glob("*.py")]
    text = "".join(file.read_text() for file in files)
    assert set(told) == set(re.findall(r'counters\["([a-z-]+)"\]', text))


def test_a_counter_at_zero_is_told():
    agent = HomeAgent(home_agent_config(), lambda: 0.0)
    assert agent.state(0.0)["counters"]["requests-received"] == 0
