"""Repeated blocks, filters with names, shared trials, and the document that is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.errors import TestbedError
from testbed.topology.load import builtin_topologies, load_topology
from testbed.topology.loaded import LoadedTopology

REPEATED = """\
name: repeated
title: As many links as one likes
options:
  links: {default: 2, choices: [1, 2, 4], help: How many links}
  stack: {default: mip-only}
repeat:
  links:
    networks:
      link-$n: {subnet: 10.1.$n.0/24, domain: intranet, medium: wireless}
    nodes:
      r1: {links: {link-$n: 10.1.$n.1}}
      fa-$n:
        roles: [router, foreign-agent]
        links: {home: 10.0.1.2$n, link-$n: 10.1.$n.2}
        settings: {visited: link-$n, care-of: home}
      mn: {attaches: [link-$n]}
networks:
  home: {subnet: 10.0.1.0/24, domain: intranet}
  link-1: {medium: wired}
nodes:
  r1: {roles: [router], links: {home: 10.0.1.1}}
  ha: {roles: [home-agent], links: {home: 10.0.1.2}, settings: {home-network: home}}
  mn: {roles: [mobile-node], attaches: [home], settings: {home-agent: ha, home-address: 10.0.1.100}}
"""
CLAIMED = """\
name: claimed
title: Claims that share a trial
networks:
  home: {subnet: 10.0.1.0/24, domain: intranet}
nodes:
  ha: {roles: [home-agent], links: {home: 10.0.1.2}, settings: {home-network: home}}
  mn: {roles: [mobile-node], attaches: [home], settings: {home-agent: ha, home-address: 10.0.1.100}}
filters:
  from-mn: $request and src host mn
  request: udp dst port 434
trials:
  walk:
    sets: [node.mn.lifetime=60s]
    steps: [{move: home}]
    expect: [{packets: {at: mn/home, filter: $request, none: true}}]
claims:
  plain: {says: it does, source: §1, run: walk, control: walk}
  more:
    says: it does more
    source: §1
    run:
      trial: walk
      sets: [node.mn.lifetime=30s]
      expect: [{packets: {at: mn/home, filter: esp or $from-mn, none: true}}, {binding: {}}]
    control:
      trial: walk
      steps: [{flush: ha}]
options: {stack: {default: mip-only}}
"""


def load(folder: Path, text: str, *sets: str) -> LoadedTopology:
    file = folder / "file.yaml"
    file.write_text(text)
    return load_topology(str(file), sets=sets)


@pytest.mark.parametrize(("sets", "links"), [((), 2), (("links=4",), 4), (("option.links=1",), 1)])
def test_a_block_is_there_as_often_as_the_option_says(
    sets: tuple[str, ...], links: int, tmp_path: Path
) -> None:
    topology = load(tmp_path, REPEATED, *sets).topology
    numbers = range(1, links + 1)
    names = ["home", *(f"link-{n}" for n in numbers)]
    assert list(dict.fromkeys(topology.networks)) == names
    assert list(topology.nodes) == ["r1", "ha", "mn", *(f"fa-{n}" for n in numbers)]
    assert [str(one) for one in topology.nodes["r1"].links.values()] == [
        "10.0.1.1",
        *(f"10.1.{n}.1" for n in numbers),
    ]
    assert topology.nodes["mn"].attaches == names
    assert topology.nodes[f"fa-{links}"].settings == {"visited": f"link-{links}", "care-of": "home"}
    media = [topology.networks[f"link-{n}"].medium for n in numbers]
    assert media == ["wired"] + ["wireless"] * (links - 1), (
        "what the file says itself stands before the block"
    )


def test_a_set_reaches_what_was_repeated(tmp_path: Path) -> None:
    loaded = load(tmp_path, REPEATED, "node.fa-4.lifetime=60s", "links=4")
    assert loaded.settings["fa-4"]["lifetime"] == 60_000
    with pytest.raises(TestbedError, match="the topology has no node fa-4"):
        load(tmp_path, REPEATED, "node.fa-4.lifetime=60s")


def test_an_option_outside_its_choices_is_told_as_ever(tmp_path: Path) -> None:
    with pytest.raises(TestbedError) as caught:
        load(tmp_path, REPEATED, "links=3")
    assert str(caught.value).startswith("--set links=3: expected one of 1, 2, 4, got 3")
    free = REPEATED.replace(", choices: [1, 2, 4]", "")
    assert "link-3" in load(tmp_path, free, "links=3").topology.networks
    with pytest.raises(TestbedError, match=r"--set links=many: options.links: expected a whole number"):
        load(tmp_path, free, "links=many")


def test_claims_share_trials_and_filters(tmp_path: Path) -> None:
    claims = load(tmp_path, CLAIMED).topology.claims
    plain, more = claims["plain"], claims["more"]
    assert plain.run == plain.control
    assert plain.run.expect[0].packets and plain.run.expect[0].packets.filter == "udp dst port 434"
    assert more.run.steps == plain.run.steps and more.run.expect[0] == plain.run.expect[0]
    assert more.run.sets == ["node.mn.lifetime=60s", "node.mn.lifetime=30s"]
    added = more.run.expect[1].packets
    assert added and added.filter == "esp or ((udp dst port 434) and src host mn)"
    assert more.run.expect[2].binding and more.run.expect[2].binding.agent is None
    assert [step.word for step in more.control.steps] == ["flush"]
    assert more.control.expect == plain.run.expect


def test_a_list_of_runs_may_name_trials(tmp_path: Path) -> None:
    listed = CLAIMED.replace("run: walk", "run: [walk, {trial: walk, steps: [{flush: ha}]}]")
    loaded = load(tmp_path, listed)
    plain = loaded.topology.claims["plain"]
    (first, one), (second, two) = plain.experiments("run")
    assert (first, second) == (("run", 0), ("run", 1)) and one == plain.control
    assert [step.word for step in two.steps] == ["flush"] and two.expect == one.expect
    assert loaded.source("claims", "plain", "run", 1, "expect", 0).line == 15
    again = load(tmp_path, loaded.text())
    assert again.topology.claims["plain"] == plain


def test_what_comes_from_a_trial_is_marked_there(tmp_path: Path) -> None:
    loaded = load(tmp_path, CLAIMED)
    assert loaded.source("claims", "more", "run", "expect", 0).line == 15
    assert loaded.source("claims", "more", "run", "expect", 1).line == 24
    assert loaded.source("claims", "plain", "run").line == 17
    assert loaded.source("claims", "plain", "run", "steps", 0, "move").line == 14


@pytest.mark.parametrize("name", builtin_topologies())
def test_the_document_that_is_left_loads_by_itself(name: str, tmp_path: Path) -> None:
    loaded = load_topology(name, sets=["node.mn.image=acme/mn:1"])
    file = tmp_path / "whole.yaml"
    file.write_text(loaded.text())
    again = load_topology(str(file))
    assert again.topology == loaded.topology and again.text() == loaded.text()
    assert file.read_text().startswith(f"name: {loaded.name}\n") and "include" not in again.document


def test_the_document_that_is_left_has_what_was_chosen(tmp_path: Path) -> None:
    text = load(tmp_path, REPEATED, "links=4").text()
    again = load(tmp_path, text)
    assert (
        again.options == {"links": 4, "stack": "mip-only"}
        and "fa-4" in again.topology.nodes
        and "$n" not in text
    )


LIKE = """\
name: crowd
title: Mobile nodes that are like another
include: [plain-mip.yaml]
options: {others: {default: 0}}
nodes: {mn: {settings: {lifetime: 90s}}}
repeat:
  others:
    nodes:
      mn-$n: {like: mn, settings: {home-address: 192.0.2.11$n, udp-tunnel: nat}}
"""


def test_a_node_may_be_like_another_but_for_what_it_says_itself(tmp_path: Path) -> None:
    loaded = load(tmp_path, LIKE, "others=2")
    mn, other = loaded.topology.nodes["mn"], loaded.topology.nodes["mn-2"]
    assert (other.roles, other.attaches) == (mn.roles, mn.attaches)
    assert other.settings == {**mn.settings, "home-address": "192.0.2.112", "udp-tunnel": "nat"}
    assert loaded.source("nodes", "mn-2", "settings", "lifetime").line == 5  # where mn says it
    assert loaded.source("nodes", "mn-2", "settings", "udp-tunnel").line == 9
    assert "like:" not in loaded.text() and list(loaded.mobile_nodes) == ["mn", "mn-1", "mn-2"]


def test_a_node_is_like_another_that_there_is(tmp_path: Path) -> None:
    with pytest.raises(TestbedError, match="unknown node mm") as caught:
        load(tmp_path, LIKE.replace("like: mn", "like: mm"), "others=1")
    assert caught.value.source and caught.value.source.line == 9 and "did you mean mn?" in str(caught.value)
