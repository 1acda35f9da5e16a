from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from testbed.document.read import load_document
from testbed.document.remarks import remark
from testbed.document.write import WIDTH, document_text
from testbed.errors import Source

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn", "Co"])) | st.lists(
    st.sampled_from(["word", "#", "a:", "- b", "'it's'", "{x}", "§4.2", "on"]), min_size=20, max_size=60
).map(" ".join)
SCALARS = st.none() | st.booleans() | st.integers() | st.integers(-99, 99).map(lambda n: n / 4) | TEXTS
# Keys that begin with x- are the reader's own, for parts to be used again.
KEYS = st.from_regex(r"(?!x-)[a-z0-9][a-z0-9./-]{0,9}", fullmatch=True) | st.sampled_from(
    ["on", "null", "a b"]
)
VALUES = st.recursive(SCALARS, lambda one: st.lists(one, max_size=4) | st.dictionaries(KEYS, one, max_size=4))
DOCUMENTS = st.dictionaries(KEYS, VALUES, min_size=1, max_size=5)


@given(DOCUMENTS, st.booleans())
def test_what_is_written_reads_back(
    tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any], remarks: bool
) -> None:
    text = document_text(data, (lambda path: f"{path} # here") if remarks else lambda _: "")
    file = tmp_path_factory.mktemp("written") / "file.yaml"
    file.write_text(text, encoding="utf-8")
    assert load_document(file, "file.yaml").data == data
    assert yaml.safe_load(text) == data  # PyYAML's own rules, which are those of YAML 1.1


def test_short_parts_stand_on_one_line_and_remarks_behind_them() -> None:
    data = {
        "title": "A title",
        "nodes": {
            "a": {"roles": ["host"], "links": {"net": "192.0.2.1"}},
            "b": {"roles": ["host"], "links": {"net": "192.0.2.2"}},
        },
        "steps": [{"move": "hotel"}, {"ping": {"from": "a", "to": "b"}, "within": "3s"}],
        "summary": "word " * 40 + "end\n",
    }
    remarks = {("nodes", "a"): "one", ("nodes", "b", "links", "net"): "two\nlines", ("steps", 0): "three"}
    text = document_text(data, lambda path: remarks.get(path, ""))
    assert text.startswith(
        "title: A title\n"
        "\n"
        "nodes:\n"
        "  a: {roles: [host], links: {net: 192.0.2.1}}  # one\n"
        "  b:\n"
        "    roles: [host]\n"
        "    links:\n"
        "      net: 192.0.2.2  # two lines\n"
        "\n"
        "steps:\n"
        "  - move: hotel  # three\n"
        "  - {ping: {from: a, to: b}, within: 3s}\n"
        "summary: >\n"
        "  word word"
    )
    assert max(map(len, text.splitlines())) <= WIDTH


@pytest.mark.parametrize(
    ("line", "comment"),
    [
        ("key: value # why", "why"),
        ("- move: hotel #  why not? ", "why not?"),
        ("key: 'a # b' # why", "why"),
        ('key: "a # b"', ""),
        ("key: agent's # why", "why"),
        ("key: a#b", ""),
        ("key: value", ""),
    ],
)
def test_remarks_are_the_comments_of_lines(tmp_path: Path, line: str, comment: str) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(f"first: 1 # another\n{line}\n")
    assert remark(Source(str(file), 2)) == comment
    assert remark(Source(str(file), 9)) == remark(Source(str(file))) == ""
    assert remark(Source(str(tmp_path / "gone.yaml"), 1)) == remark(Source("--set a=b # c", 1)) == ""
