"""Topology files made of several: what stands before what, in which order, and where errors point."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from testbed.data import data_dir
from testbed.errors import Source, TopologyError
from testbed.topology.include import read_document
from testbed.topology.load import builtin_topologies, load_topology

FILES = sorted(data_dir("topologies").rglob("*.yaml"))


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)


def test_a_name_that_no_file_can_have_is_no_file(tmp_path: Path) -> None:
    write(tmp_path, top=f"include: [{'a' * 300}.yaml]\n")
    with pytest.raises(TopologyError, match=r"include\[0\]: no file a") as caught:
        read_document(tmp_path / "top.yaml", "top.yaml")
    assert caught.value.source == Source("top.yaml", 1, 11)


@pytest.mark.parametrize(
    ("entry", "hint"),
    [
        ("scenario2.1.yaml", "did you mean scenario-2.1.yaml?"),
        ("trials.yaml", "did you mean shared/trials.yaml?"),
        ("share/homes.yaml", "did you mean shared/home.yaml?"),
        ("rooms.yaml", "paths are relative to the file that includes them"),
        ("corporate.yaml", "paths are relative to the file that includes them"),
    ],
)
def test_only_a_file_with_a_name_much_alike_may_have_been_meant(
    tmp_path: Path, entry: str, hint: str
) -> None:
    write(tmp_path, top=f"include: [{entry}]\n")
    with pytest.raises(TopologyError) as caught:
        read_document(tmp_path / "top.yaml", "top.yaml")
    assert caught.value.hint == hint


def test_the_including_file_stands_before_what_it_includes(tmp_path: Path) -> None:
    write(
        tmp_path,
        a="nodes: {x: {roles: [router], links: {one: 1}}, y: {image: a}}\n",
        b="nodes: {x: {links: {one: 2, two: 2}}, y: {image: b}}\nnetworks: {n: 1}\n",
        top="include: [a.yaml, b.yaml]\nnetworks:\n  m: 3\nnodes:\n  x: {roles: [hub]}\n  z: {}\n",
    )
    data, _ = read_document(tmp_path / "top.yaml", "top.yaml")
    assert data == {
        "nodes": {
            "x": {"roles": ["hub"], "links": {"one": 2, "two": 2}},  # lists are replaced, mappings merged
            "y": {"image": "b"},
            "z": {},
        },
        "networks": {"n": 1, "m": 3},
    }
    assert list(data) == ["nodes", "networks"] and list(data["networks"]) == ["n", "m"], "included ones first"


def test_marks_are_where_each_value_was_written(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub", a="nodes:\n  x:\n    image: a\n    links: {one: 1}\n")
    write(tmp_path, top="include: [sub/a.yaml]\nnodes:\n  x:\n    image: top\n")
    _, marks = read_document(tmp_path / "top.yaml", "here/top.yaml")
    assert marks.value(("nodes", "x", "image")) == Source("here/top.yaml", 4, 12)
    assert marks.key(("nodes", "x", "links", "one")) == Source("here/sub/a.yaml", 4, 13)
    assert marks.value(()) == Source("here/top.yaml", 1, 1)


def test_included_files_include_others_relative_to_themselves(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path, deep="networks: {deep: 1}\n", top="include: [sub/a.yaml, sub/b.yaml]\n")
    write(tmp_path / "sub", a="include: [../deep.yaml]\n", b="include: [../deep.yaml]\nnetworks: {b: 1}\n")
    assert read_document(tmp_path / "top.yaml", "top")[0] == {"networks": {"deep": 1, "b": 1}}


def test_anchors_stay_private_to_their_file(tmp_path: Path) -> None:
    write(
        tmp_path,
        a="x-it: &it {image: a}\nnodes: {x: *it}\n",
        top="include: [a.yaml]\nx-it: &it {image: top}\nnodes: {y: *it}\n",
    )
    data, _ = read_document(tmp_path / "top.yaml", "top")
    assert data == {"nodes": {"x": {"image": "a"}, "y": {"image": "top"}}}


def test_a_file_of_ones_own_may_include_built_in_ones(tmp_path: Path) -> None:
    write(tmp_path, mine="include: [scenario-2.1.yaml]\nname: mine\nnetworks: {internet: {delay: 80ms}}\n")
    loaded = load_topology(str(tmp_path / "mine.yaml"))
    assert loaded.name == "mine" and loaded.topology.networks["internet"].delay == 80
    assert list(loaded.topology.claims) == list(load_topology("scenario-2.1").topology.claims)
    assert loaded.source("nodes", "gw").file == str(data_dir("topologies") / "shared/gateway.yaml")


def test_what_stands_beside_is_before_the_built_in_one(tmp_path: Path) -> None:
    shutil.copytree(data_dir("topologies"), tmp_path, dirs_exist_ok=True)
    file = tmp_path / "shared/internet.yaml"
    file.write_text(file.read_text().replace("delay: 10ms", "delay: 11ms"))
    assert load_topology(str(tmp_path / "plain-mip.yaml")).topology.networks["internet"].delay == 11


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_built_in_files_are_short(file: Path) -> None:
    assert len(file.read_text().splitlines()) < 150


def test_every_fragment_is_used() -> None:
    seen: set[str] = set()
    for name in builtin_topologies():
        marks = read_document(builtin_topologies()[name], str(builtin_topologies()[name]))[1]
        seen |= {mark.value.file for mark in marks.at.values()}
    assert {str(file) for file in FILES} == seen


def test_files_that_are_too_large_together_are_refused_before_they_are_read(tmp_path: Path) -> None:
    write(tmp_path, top="include: [a.yaml, b.yaml]\n", a="title: a\n", b="]" * (1 << 20))
    with pytest.raises(TopologyError, match="at most 1 MiB") as caught:
        read_document(tmp_path / "top.yaml", "top.yaml")
    assert caught.value.source == Source("b.yaml", 1, 1)


def test_files_may_not_include_each_other_without_end(tmp_path: Path) -> None:
    write(tmp_path, **{f"f{n}": f"include: [f{n + 1}.yaml]\n" for n in range(20)}, f20="x: 1\n")
    with pytest.raises(TopologyError, match="at most 16 deep") as caught:
        read_document(tmp_path / "f0.yaml", "f0.yaml")
    assert caught.value.source == Source("f16.yaml", 1, 11)


def test_what_was_read_before_is_not_taken_for_what_the_files_say_now(tmp_path: Path) -> None:
    """Neither after a change of an included file, nor after changes of the data that a caller was given."""
    write(tmp_path, a="nodes: {x: {image: a}}\n", top="include: [a.yaml]\n")
    data, marks = read_document(tmp_path / "top.yaml", "top.yaml")
    data["nodes"]["x"]["image"] = "changed"
    marks.replace(("nodes",), Source("changed"))
    assert read_document(tmp_path / "top.yaml", "top.yaml")[0] == {"nodes": {"x": {"image": "a"}}}
    assert read_document(tmp_path / "top.yaml", "top.yaml")[1].value(("nodes",)).file.endswith("a.yaml")
    write(tmp_path, a="nodes: {x: {image: b}}\n")
    assert read_document(tmp_path / "top.yaml", "top.yaml")[0] == {"nodes": {"x": {"image": "b"}}}
