"""The vocabulary: every word is explained, and the text is that of the classes."""

import json

from testbed.claim.expect import Expectation
from testbed.claim.steps import Step
from testbed.claim.vocabulary import render, words
from testbed.cli import main
from testbed.topology.model import Topology


def test_every_word_is_there_and_explained():
    listed = list(words())
    fields = [
        field.alias or name for model in (Step, Expectation) for name, field in model.model_fields.items()
    ]
    assert [one.word for one in listed] == fields
    for one in listed:
        assert one.text.endswith(".") and "Part" not in one.text
        assert all(key.text for key in one.keys), one.word
    assert {one.word for one in listed if any(key.short for key in one.keys)} >= {"move", "bypass", "session"}


def test_one_word_alone(capsys):
    assert main(["vocabulary", "bypass"]) == 0
    out = capsys.readouterr().out
    assert (
        out.startswith("bypass\n")
        and "emulated" in out
        and "state*: `on`: it passes; `off`: it does not: on | off" in out
    )


def test_for_programs(capsys):
    assert main(["vocabulary", "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == 1
    assert {one["kind"] for one in document["words"]} == {"step", "expectation"}


def test_an_unknown_word(capsys):
    assert main(["vocabulary", "mov"]) == 2
    assert "did you mean move?" in capsys.readouterr().err


def test_the_whole_text_fits_a_terminal():
    text = render(words())
    assert max(map(len, text.splitlines())) <= 110
    assert "STEPS" in text and "EXPECTATIONS" in text


def test_editors_accept_both_ways_of_writing():
    schema = Topology.model_json_schema()["$defs"]["Move"]
    short, spelled = schema["anyOf"]
    assert "array" in short["type"] and "to" in spelled["properties"]


def test_values_are_listed() -> None:
    text = render(words())
    assert "address | ike" in text
    state = render(one for one in words() if one.word == "mobile-node")
    assert "registered | home | not-registered" in " ".join(state.split())
    assert "neither" not in text
    reaches = next(key for one in words() if one.word == "move" for key in one.keys if key.name == "reaches")
    assert reaches.values == ("link", "address", "ike", "registered", "data")
