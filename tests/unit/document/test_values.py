from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.document import values
from testbed.document.values import AddressRange, Expected


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("40ms", 40),
        ("1.5s", 1500),
        ("10min", 600_000),
        ("2h", 7_200_000),
        ("250us", 0.25),
        ("3 s", 3000),
        (0, 0),
        (0.0, 0),
    ],
)
def test_duration(text: object, ms: float) -> None:
    assert values.parse_duration(text) == ms


@pytest.mark.parametrize(
    "text", ["40", "ms", "-1ms", "1m", "1e3ms", "", None, 40, 1.5, True, [], "40ms ", "٤ms"]
)
def test_not_a_duration(text: object) -> None:
    with pytest.raises(Expected, match="a duration"):
        values.parse_duration(text)


@given(st.integers(0, 24 * 3_600_000))
def test_a_duration_is_written_as_it_was_read(ms: int) -> None:
    text = values.format_duration(ms)
    assert values.parse_duration(text) == pytest.approx(ms)


@pytest.mark.parametrize(
    ("ms", "text"), [(0, "0ms"), (40, "40ms"), (1500, "1.5s"), (90_000, "90s"), (600_000, "10min")]
)
def test_format_duration(ms: float, text: str) -> None:
    assert values.format_duration(ms) == text


@pytest.mark.parametrize(
    ("text", "bits"),
    [("10mbit", 10_000_000), ("512 kbit", 512_000), ("1Gbit/s", 10**9), ("1.5mbit", 1_500_000)],
)
def test_rate(text: str, bits: int) -> None:
    assert values.parse_rate(text) == bits
    assert values.parse_rate(values.format_rate(bits)) == bits


@pytest.mark.parametrize("text", [10, "10", "0mbit", "10mb", "10MB/s", None])
def test_not_a_rate(text: object) -> None:
    with pytest.raises(Expected, match="a data rate"):
        values.parse_rate(text)


def test_percent() -> None:
    assert values.parse_percent("0.5%") == 0.5
    assert values.parse_percent(0) == 0
    for wrong in (1, "1", "101%", "-1%", None):
        with pytest.raises(Expected, match="a percentage"):
            values.parse_percent(wrong)


def test_prefix_and_address() -> None:
    assert values.parse_prefix("10.0.0.0/8") == IPv4Network("10.0.0.0/8")
    assert values.parse_route_prefix("default") == IPv4Network("0.0.0.0/0")
    assert values.parse_address("10.0.0.1") == IPv4Address("10.0.0.1")
    for wrong in ("10.0.0.1/8", "10.0.0.0", "::/0", 10, "10.0.0.0/255.0.0.1"):
        with pytest.raises(Expected, match="an IPv4 prefix"):
            values.parse_prefix(wrong)
    for wrong in ("10.0.0.1/8", "::1", 167772161, "10.0.0", "1.2.3.4.5"):
        with pytest.raises(Expected, match="an IPv4 address"):
            values.parse_address(wrong)


def test_range() -> None:
    pool = values.parse_range("192.0.2.10-192.0.2.12")
    assert pool == AddressRange(IPv4Address("192.0.2.10"), IPv4Address("192.0.2.12"))
    assert [str(address) for address in pool] == ["192.0.2.10", "192.0.2.11", "192.0.2.12"]
    assert len(pool) == 3
    assert IPv4Address("192.0.2.11") in pool
    assert IPv4Address("192.0.2.13") not in pool
    assert str(pool) == "192.0.2.10-192.0.2.12"


@given(st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.booleans(), st.lists(st.text())))
def test_no_value_but_expected_errors(value: object) -> None:
    for parse in (
        values.parse_duration,
        values.parse_rate,
        values.parse_percent,
        values.parse_address,
        values.parse_prefix,
        values.parse_range,
        values.parse_name,
    ):
        try:
            parse(value)
        except Expected as error:
            assert error.expected
