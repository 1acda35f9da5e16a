"""Lines of JSON are what the standard library makes of a message."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.mobileip.io.json_line import encoder

MESSAGES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner),
)


@given(MESSAGES, st.sampled_from(((", ", ": "), (",", ":"))))
def test_it_encodes_as_the_standard_library(message, separators):
    assert encoder(*separators)(message) == json.dumps(message, separators=separators)


def test_without_an_encoder_in_c_it_is_the_ordinary_one(monkeypatch):
    monkeypatch.setattr(json.encoder, "c_make_encoder", None)
    assert encoder()({"a": [1, None]}) == '{"a": [1, null]}'


def test_where_that_is_made_in_another_way_it_is_the_ordinary_one(monkeypatch):
    there = json.encoder.c_make_encoder

    def another(markers, *arguments):
        if markers is None:  # only we ask for no check of circles
            raise TypeError("another signature")
        return there(markers, *arguments)

    monkeypatch.setattr(json.encoder, "c_make_encoder", another)
    assert encoder()({"a": [1, None]}) == '{"a": [1, null]}'


def test_what_is_no_json_is_refused():
    with pytest.raises(TypeError):
        encoder()({"a": object()})
