from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.data import data_dir
from testbed.document.marks import Marks
from testbed.document.read import load_document, parse_value
from testbed.document.syntax import _Loader, parse
from testbed.errors import ErrorGroup, TestbedError, TopologyError


def read(tmp_path: Path, text: str | bytes) -> tuple[dict[str, Any], Marks]:
    file = tmp_path / "file.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    document = load_document(file, "file.yaml")
    return dict(document.data), document.marks


def test_scalars_follow_yaml_1_2(tmp_path: Path) -> None:
    data, _ = read(
        tmp_path,
        "{a: on, b: no, c: yes, d: true, e: 010, f: 1:30, g: 0x10, h: 12, i: -1, j: 1.5, k: ~, l: , m: 1_000,"
        " n: '12', o: 2024-01-01, p: .inf, q: +5, r: 1e3}",
    )
    assert data == {
        "a": "on", "b": "no", "c": "yes", "d": True, "e": "010", "f": "1:30", "g": "0x10", "h": 12, "i": -1,
        "j": 1.5, "k": None, "l": None, "m": "1_000", "n": "12", "o": "2024-01-01", "p": ".inf", "q": 5,
        "r": "1e3",
    }  # fmt: skip


def test_keys_are_text_as_written(tmp_path: Path) -> None:
    data, _ = read(tmp_path, "{on: 1, 010: 2, null: 3, 12: 4}")
    assert data == {"on": 1, "010": 2, "null": 3, "12": 4}


def test_anchors_aliases_and_merge_keys(tmp_path: Path) -> None:
    data, marks = read(
        tmp_path,
        "x-base: &base {a: 1, b: {c: 2}}\n"
        "x-more: &more {a: 9, d: 4}\n"
        "one: {<<: *base, a: 5}\n"
        "two: {<<: [*base, *more]}\n"
        "three: *base\n",
    )
    assert data == {
        "one": {"a": 5, "b": {"c": 2}},
        "two": {"a": 1, "b": {"c": 2}, "d": 4},
        "three": {"a": 1, "b": {"c": 2}},
    }
    assert data["one"]["b"] is not data["three"]["b"], "a change of one must not change the other"
    assert str(marks.value(("one", "a"))) == "file.yaml:3:21"
    assert str(marks.value(("one", "b", "c"))) == "file.yaml:1:29", (
        "the text of a merged value is at its anchor"
    )


def test_marks_fall_back_to_the_enclosing_place(tmp_path: Path) -> None:
    _, marks = read(tmp_path, "a:\n  b: 1\n")
    assert str(marks.key(("a", "b"))) == "file.yaml:2:3"
    assert str(marks.value(("a", "b"))) == "file.yaml:2:6"
    assert str(marks.key(("a", "missing", "deep"))) == "file.yaml:1:1"


def test_all_duplicates_are_told(tmp_path: Path) -> None:
    with pytest.raises(ErrorGroup) as caught:
        read(tmp_path, "a: 1\na: 2\nb: {c: 1, c: 2}\n")
    assert [str(error.source) for error in caught.value.errors] == ["file.yaml:2:1", "file.yaml:3:11"]


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (b"\xff\xfe\x00", "file.yaml:1:1", "not UTF-8"),
        ("a: b\r\nc: né".encode("latin-1"), "file.yaml:2:5", "not UTF-8"),
        (b"a: \x07\n", "file.yaml:1:4", "U+0007"),
        ("a: b: c\n", "file.yaml:1:5", "mapping values are not allowed"),
        ("a: 'open\n", "file.yaml:2:1", "unexpected end of stream while scanning a quoted scalar (line 1)"),
        ("x: &a [*a]\n", "file.yaml:1:4", "an alias that contains itself"),
        ("a: &a {<<: *a}\n", "file.yaml:1:4", "an alias that contains itself"),
        ("[" * 5000, "file.yaml", "nested too deeply"),
        ("- a\n", "file.yaml:1:1", "expected a mapping"),
        ("", "file.yaml:1:1", "empty"),
        ("null", "file.yaml:1:1", "expected a mapping"),
        ("a: !!python/object:os.system {}\n", "file.yaml:1:4", "means nothing here"),
        ("!!int a: 1\nb: !!int x\n", "", ""),
    ],
)
def test_bad_documents(tmp_path: Path, text: str | bytes, place: str, words: str) -> None:
    if not place:
        assert read(tmp_path, text)[0] == {"a": 1, "b": "x"}
        return
    with pytest.raises(TestbedError) as caught:
        read(tmp_path, text)
    first = caught.value.errors[0] if isinstance(caught.value, ErrorGroup) else caught.value
    assert (str(first.source), words in first.message) == (place, True), str(caught.value)


def test_aliases_cannot_explode(tmp_path: Path) -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(TopologyError, match="grow it beyond"):
        read(tmp_path, "\n".join(lines))


def nodes(root: yaml.Node | None) -> list[tuple[object, ...]]:
    """A document's nodes from its beginning to its end, with where each of them begins."""
    if root is None:
        return []
    below = [] if isinstance(root, yaml.ScalarNode) else root.value
    children = [node for one in below for node in (one if isinstance(one, tuple) else (one,))]
    mark = (root.tag, root.start_mark.line, root.start_mark.column)
    own = (root.value, root.style or None) if isinstance(root, yaml.ScalarNode) else ()
    return [(*mark, *own), *(each for child in children for each in nodes(child))]


@pytest.mark.parametrize("folder", ["topologies", "templates"])
def test_both_parsers_read_the_same(folder: str) -> None:
    for file in sorted(data_dir(folder).rglob("*.yaml")):
        text = file.read_text(encoding="utf-8")
        assert nodes(parse(text)) == nodes(yaml.compose(text, Loader=_Loader)), file


def test_tabs_are_refused_whichever_parser_reads(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match=r"file.yaml:1:3: not valid YAML"):
        read(tmp_path, "a:\t1")


def test_values_of_set() -> None:
    assert parse_value("40ms", "--set x") == "40ms"
    assert parse_value("[a, b]", "--set x") == ["a", "b"]
    assert parse_value("", "--set x") is None
    with pytest.raises(TopologyError, match=r"^--set x: not valid YAML"):
        parse_value("[a", "--set x")


@settings(max_examples=200)
@given(st.one_of(st.text(alphabet="ab:-{}[]&*!|>'\"#%@`, \n\t<?~01"), st.binary(max_size=40)))
def test_no_document_but_testbed_errors(tmp_path_factory: pytest.TempPathFactory, text: str | bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    try:
        read(folder, text)
    except TestbedError as error:
        assert str(error).startswith("file.yaml")
