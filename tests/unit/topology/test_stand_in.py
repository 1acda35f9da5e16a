"""A user's role that stands in for a built-in one: nothing differs but its name, wherever it is looked at."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import plain_yaml
import pytest

from testbed.data import data_dir
from testbed.document.functions import Function, Meaning
from testbed.errors import TopologyError
from testbed.experiment.claims.plan import choose_claims, plan_stages
from testbed.render import RenderedLab, Secrets, render_lab
from testbed.report.graph import GraphFormat, graph
from testbed.report.words import role_words
from testbed.topology.load import load_topology
from testbed.topology.loaded import LoadedTopology
from testbed.topology.names import topology_names
from testbed.topology.roles import builtin_roles
from testbed.topology.summary import summarize

SECRETS = Secrets(ike_psk="sample-psk", mobility_key="000102030405060708090a0b0c0d0e0f")
FACTS = "/etc/testbed/node.json"
MOTD = "/etc/motd"
ELSEWHERE = {
    "firewall": "scenario-2.5",
    "attacker": "attacked",
    "bulk-nodes": "bulk",
    "nat": "nat-vpn",
    "x-mobile-node": "solutions/dual-ha",
}
"""The roles that scenario 2.2 has not, and who has them. What acts as another stands in for it already."""
CASES = [
    *(
        (name, "scenario-2.2")
        for name, role in builtin_roles().items()
        if name not in ELSEWHERE and not role.acts_as
    ),
    *ELSEWHERE.items(),
    ("mobile-node", "nat-vpn"),
    ("home-agent", "plain-mip"),
    ("home-agent", "scenario-2.1"),
    ("home-agent", "scenario-2.3"),
    ("vpn-gateway", "scenario-2.1"),
    ("vpn-gateway", "scenario-2.5"),
    ("vpn-gateway", "figure-10"),
]


def other_vendor(templates: Path, role: str, names: dict[str, str] | None = None) -> str:
    """A role of another name with all that the built-in one has; `names` are other names of its settings."""
    manifest: dict[str, Any] = plain_yaml.load((data_dir("templates") / "roles" / f"{role}.yaml").read_text())
    manifest |= {"name": f"x-{role}", "acts-as": [role]}
    manifest["drawing"] = {"label": role_words([role], builtin_roles()) or "x", **manifest.get("drawing", {})}
    settings = manifest.get("settings", {})
    for old, new in (names or {}).items():
        settings[new] = settings.pop(old)
    for spec in manifest.get("files", []):
        source = data_dir("templates") / spec["template"]
        text = source.read_text()
        for old, new in (names or {}).items():
            text = text.replace(f"node.settings['{old}']", f"node.settings['{new}']")
        spec["template"] = f"x/{source.name}"
        (templates / "x").mkdir(parents=True, exist_ok=True)
        (templates / spec["template"]).write_text(text)
    (templates / "roles").mkdir(parents=True, exist_ok=True)
    (templates / "roles" / f"x-{role}.yaml").write_text(plain_yaml.dump(manifest))
    return f"x-{role}"


def instead(
    folder: Path, topology: str, role: str, names: dict[str, str] | None = None
) -> tuple[LoadedTopology, LoadedTopology]:
    """A built-in topology, and the same with another vendor's role in the place of a built-in one."""
    original = load_topology(topology)
    templates = folder / "templates"
    other = other_vendor(templates, role, names)
    data = plain_yaml.load(original.text())
    for node in data["nodes"].values():
        if role in node["roles"]:
            node["roles"] = [other if one == role else one for one in node["roles"]]
            given = node.get("settings", {})
            node["settings"] = {(names or {}).get(key, key): value for key, value in given.items()}
    file = folder / "mine.yaml"
    file.write_text(plain_yaml.dump(data))
    return original, load_topology(str(file), templates=templates)


def rendered(loaded: LoadedTopology) -> RenderedLab:
    return render_lab(loaded, lab="x", secrets=SECRETS, templates=loaded.templates)


def assert_rendered_alike(original: LoadedTopology, mine: LoadedTopology, role: str) -> None:
    ours = rendered(original).nodes
    for name, node in rendered(mine).nodes.items():
        named = (FACTS, MOTD)  # the roles are named in these
        same = {path: file for path, file in node.files.items() if path not in named}
        assert same == {path: file for path, file in ours[name].files.items() if path not in named}, name
        words = node.files[MOTD].content.replace(f"x-{role}", role).split()
        assert words == ours[name].files[MOTD].content.split()
        facts = json.loads(node.files[FACTS].content)
        facts["roles"] = [one.removeprefix("x-") for one in facts["roles"]]
        assert facts == json.loads(ours[name].files[FACTS].content)
        assert set(ours[name].functions) <= set(node.functions)
        files, functions = ours[name].files, ours[name].functions
        assert replace(node, roles=ours[name].roles, files=files, functions=functions) == ours[name]


def assert_summed_up_alike(
    original: LoadedTopology, mine: LoadedTopology, names: dict[str, str] | None = None
) -> None:
    """Addresses, routes, networks: `show`."""
    ours, theirs = summarize(original), summarize(mine)
    for node in theirs["nodes"].values():
        node["roles"] = [one.removeprefix("x-") for one in node["roles"]]
        given = {new: old for old, new in (names or {}).items()}
        node["settings"] = {given.get(key, key): value for key, value in node["settings"].items()}
    assert theirs | {"file": ""} == ours | {"file": ""}


def assert_drawn_alike(original: LoadedTopology, mine: LoadedTopology) -> None:
    for form in (GraphFormat.svg, GraphFormat.mermaid, GraphFormat.dot):
        drawn = [graph(one.topology, form, attached="home", roles=one.roles) for one in (original, mine)]
        assert drawn[0] == drawn[1]


@pytest.mark.parametrize(("role", "topology"), CASES)
def test_any_role_can_be_stood_in_for(tmp_path: Path, role: str, topology: str) -> None:
    original, mine = instead(tmp_path, topology, role)
    assert mine.with_role(role) == original.with_role(role) != ()
    assert_rendered_alike(original, mine, role)
    assert_summed_up_alike(original, mine)
    assert_drawn_alike(original, mine)
    ours, theirs = topology_names(original), topology_names(mine)
    assert (theirs.addresses, theirs.places) == (ours.addresses, ours.places)
    assert mine.border() == original.border()
    for node in original.topology.nodes:
        for reading in ("backend", "counters"):
            assert mine.reporting(node, reading) == original.reporting(node, reading)


def test_without_acts_as_it_is_another_role(tmp_path: Path) -> None:
    """The check of the checks above."""
    templates = tmp_path / "templates"
    manifest = templates / "roles" / f"{other_vendor(templates, 'home-agent')}.yaml"
    manifest.write_text(manifest.read_text().replace("acts-as:\n- home-agent\n", ""))
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: mine\ntitle: Another's home agent\ninclude: [plain-mip.yaml]\n"
        "nodes: {ha: {roles: [router, x-home-agent]}}\n"
    )
    with pytest.raises(TopologyError, match="a mobile-node needs a node with the role home-agent"):
        raise_first(file, templates)


def raise_first(file: Path, templates: Path) -> None:
    from testbed.errors import ErrorGroup

    try:
        load_topology(str(file), templates=templates)
    except ErrorGroup as group:
        raise group.errors[0] from None


HOME_NAMES = {"home-network": "lan", "virtual-home": "virtual-lan", "agent": "registers-on"}
CLIENT_NAMES = {"home-agent": "anchor", "home-address": "stable-address", "probe": "partner"}


@pytest.mark.parametrize(
    ("role", "topology", "names"),
    [
        ("home-agent", "scenario-2.1", HOME_NAMES),
        ("home-agent", "scenario-2.2", HOME_NAMES),
        ("mobile-node", "scenario-2.2", CLIENT_NAMES),
    ],
)
def test_it_calls_its_settings_as_it_likes(
    tmp_path: Path, role: str, topology: str, names: dict[str, str]
) -> None:
    original, mine = instead(tmp_path, topology, role, names)
    assert_rendered_alike(original, mine, role)
    assert_summed_up_alike(original, mine, names)
    assert_drawn_alike(original, mine)


def test_errors_name_settings_as_they_are_written(tmp_path: Path) -> None:
    _, mine = instead(tmp_path, "plain-mip", "home-agent", HOME_NAMES)
    file = Path(mine.file)
    file.write_text(file.read_text().replace("lan: home", "lan: home\n      virtual-lan: 192.0.2.0/24"))
    with pytest.raises(
        TopologyError, match=r"mine.yaml:.*nodes.ha: a home agent needs either lan or virtual"
    ):
        raise_first(file, tmp_path / "templates")


def test_a_home_agent_of_ones_own_says_which_setting_is_its_home_network(tmp_path: Path) -> None:
    _, mine = instead(tmp_path, "plain-mip", "home-agent")
    manifest = tmp_path / "templates" / "roles" / "x-home-agent.yaml"
    manifest.write_text(manifest.read_text().replace("    means: home-network\n", ""))
    with pytest.raises(TopologyError, match="a home agent needs either home-network or virtual-home"):
        raise_first(Path(mine.file), tmp_path / "templates")


def test_claims_are_planned_alike(tmp_path: Path) -> None:
    original, mine = instead(tmp_path, "scenario-2.1", "home-agent")
    ours, theirs = (
        [
            [(run.claim, run.kind, run.number) for run in stage.runs]
            for stage in plan_stages([choose_claims(one)], templates=one.templates)
        ]
        for one in (original, mine)
    )
    assert ours == theirs != []


def test_where_nothing_is_meant_nothing_is_found(tmp_path: Path) -> None:
    """A setting that happens to be called like a meaning means nothing by that."""
    (tmp_path / "roles").mkdir()
    (tmp_path / "roles" / "box.yaml").write_text(
        "name: box\nsummary: A box\nsettings: {outside: {type: network}, home-address: {type: address}}\n"
    )
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: mine\ntitle: A box\nnetworks: {lan: {subnet: 192.0.2.0/24, domain: internet}}\nnodes:\n"
        "  a: {roles: [box], links: {lan: 192.0.2.1}, settings: {outside: lan, home-address: 192.0.2.9}}\n"
    )
    loaded = load_topology(str(file), templates=tmp_path)
    assert loaded.home_address("a") is None and loaded.meant("a", Meaning.OUTSIDE) is None
    assert str(loaded.primary_address("a")) == "192.0.2.1"
    with pytest.raises(LookupError, match="a has no link that means outside"):
        loaded.outside("a")
    assert not loaded.acts_as("a", Function.HUB)
