"""Which labs a verification needs; the evidence folder; a verification whose labs are played."""

import json
import threading
import time
from collections import Counter
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import pytest
from experiment_world import PlayedLab

from testbed.claim.claims import Claim
from testbed.data import data_dir
from testbed.errors import ErrorGroup, TestbedError, TopologyError, UsageError
from testbed.evidence.folder import RunFolder, run_path
from testbed.evidence.verdicts import Verdicts
from testbed.evidence.versions import Machine
from testbed.experiment.claims import crew as crew_module
from testbed.experiment.claims.plan import (
    LAB_SECONDS,
    PlannedLab,
    Scenario,
    choose_claims,
    choose_scenarios,
    plan_stages,
    run_seconds,
    share_labs,
)
from testbed.experiment.claims.shard import Shard
from testbed.experiment.claims.verdict import Finding, RunResult
from testbed.experiment.claims.verify import Verification
from testbed.experiment.evidence import Evidence
from testbed.lab.state import ActualLab
from testbed.render import REDACTED, Secrets, render_lab
from testbed.report.evidence import read_evidence
from testbed.report.page import render_report
from testbed.topology.load import load_topology

BOUND = {"binding": {"agent": "ha"}}


def planned(*wanted, ref="scenario-2.1", sets=()):
    """The claims wanted and their stages, which tests leave as they are: made once, where no file changes."""
    plan = _planned if ref == "scenario-2.1" else _planned.__wrapped__
    return plan(wanted, ref, tuple(sets))


@cache
def _planned(wanted, ref, sets):
    scenario = choose_claims(load_topology(str(ref), sets=sets), wanted)
    return scenario, plan_stages([scenario])


def apart(stages):
    """A lab for each stage."""
    return [PlannedLab([stage]) for stage in stages]


def planned_apart(*wanted, **options):
    scenario, stages = planned(*wanted, **options)
    return scenario, apart(stages)


def test_runs_share_stages():
    scenario, labs = planned()
    wanted = sorted((lab.topology.name, *lab.topology.sets) for lab in labs)
    plain, ipsec = "option.stack=mip-only", "option.stack=mip-in-ipsec"
    home, split = "option.attach=home", "node.mn.passes=registrations"
    assert wanted == [
        ("figure-10", home),
        ("figure-7", ipsec, home, split),
        ("plain-mip", home),
        ("scenario-2.1", ipsec, home),
        ("scenario-2.1", ipsec, home, "node.mn.monitor=5s"),
        ("scenario-2.1", ipsec, home, split),
        ("scenario-2.1", plain, home),
        ("scenario-2.1", plain, home, "node.gw.passes=registrations"),
        ("scenario-2.2", "option.stack=ipsec-in-mip", "option.attach=hotel"),
    ]
    runs = [(run.claim, run.kind) for lab in labs for run in lab.runs]
    assert len(runs) == 31 and len(set(runs)) == 2 * len(scenario.claims) == 28
    assert [lab.seconds for lab in labs] == sorted((lab.seconds for lab in labs), reverse=True)


def test_one_claim_needs_only_its_own_labs():
    _, labs = planned("2.1-fa-mn-deaf")
    assert [lab.topology.name for lab in labs] == ["scenario-2.1"]


def test_changes_of_the_user_hold_for_the_claims_own_topology():
    _, labs = planned("2.1-fa-registration-impossible", sets=["network.internet.delay=1ms"])
    delays = {lab.topology.name: lab.topology.topology.networks["internet"].delay for lab in labs}
    assert delays == {"scenario-2.1": 1.0, "plain-mip": 10.0}


def test_unknown_claims():
    loaded = load_topology("scenario-2.1")
    with pytest.raises(UsageError, match=r"no claim 2\.1-fa-mn-daef") as caught:
        choose_claims(loaded, ["2.1-fa-mn-daef"])
    assert caught.value.hint == "did you mean 2.1-fa-mn-deaf?"
    with pytest.raises(UsageError, match="makes no claims"):
        choose_claims(load_topology("plain-mip"), [])


OWN = """\
name: own
title: A topology of one's own
networks: {home: {subnet: 10.0.1.0/24, domain: intranet}}
nodes:
  ha: {roles: [home-agent], links: {home: 10.0.1.2}, settings: {home-network: home}}
  mn: {roles: [mobile-node], attaches: [home], settings: {home-agent: ha, home-address: 10.0.1.100}}
claims:
  mine:
    says: it works at home
    source: §1
    run: {steps: [{move: home}], expect: [{mobile-node: home}]}
    control: {topology: OTHER, steps: [{move: HOTSPOT}], expect: [{visitor: {agent: fa-hotspot}}]}
options: {stack: {default: mip-only}}
"""


def test_names_in_another_topology_are_checked_there(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text(OWN.replace("OTHER", "plain-mip").replace("HOTSPOT", "hotspt"))
    with pytest.raises(TopologyError, match="mn does not attach to hotspt") as caught:
        planned(ref=file)
    assert str(caught.value.source) == f"{file}:12:51" and "plain-mip" in caught.value.message


def test_another_topology_may_be_a_file_beside(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text(OWN.replace("OTHER", "./other.yaml").replace("HOTSPOT", "hotspot"))
    (tmp_path / "other.yaml").write_text((data_dir("topologies") / "plain-mip.yaml").read_text())
    _, labs = planned(ref=file)
    assert {lab.topology.file for lab in labs} == {str(file), f"{tmp_path}/other.yaml"}


# Several scenarios


def two(tmp_path, claim="theirs", **changes):
    """Scenario 2.1, and one of the user's own whose control is in plain-mip as well."""
    file = tmp_path / "own.yaml"
    text = OWN.replace("topology: OTHER", "topology: plain-mip, options: {attach: home}")
    file.write_text(text.replace("HOTSPOT", "hotspot").replace("mine:", f"{claim}:"))
    return choose_scenarios(["scenario-2.1", str(file)], **changes)


def test_scenarios_share_labs(tmp_path):
    scenarios = two(tmp_path)
    labs = plan_stages(scenarios)
    (plain,) = [lab for lab in labs if lab.topology.name == "plain-mip"]
    assert {run.claim for run in plain.runs} >= {"theirs", "2.1-fa-registration-impossible"}
    assert len(labs) == len(planned()[1]) + 1


def test_labs_are_the_same_however_they_are_asked_for(tmp_path):
    text = OWN.replace("topology: OTHER", "topology: scenario-2.1, options: OPTIONS")
    files = []
    for number, options in enumerate(("{attach: home, stack: mip-in-ipsec}", "{attach: home}")):
        files.append(tmp_path / f"own{number}.yaml")
        files[-1].write_text(
            text.replace("OPTIONS", options)
            .replace("HOTSPOT", "hotspot")
            .replace("mine:", f"c{number}:")
            .replace("name: own", f"name: own{number}")
        )
    labs = plan_stages(choose_scenarios([str(file) for file in files]))
    (shared,) = [lab for lab in labs if lab.topology.name == "scenario-2.1"]
    assert [run.claim for run in shared.runs] == ["c0", "c1"]  # mip-in-ipsec is the default


def test_claims_by_pattern():
    loaded = load_topology("scenario-2.1")
    chosen = choose_claims(loaded, ["2.1-fa-*", "2.1-gateway-guards"]).claims
    assert {name.startswith("2.1-fa-") for name in chosen if name != "2.1-gateway-guards"} == {True}
    assert "2.1-gateway-guards" in chosen and len(chosen) < len(loaded.topology.claims)
    with pytest.raises(UsageError, match=r"scenario-2\.1 has no claim 2\.2-\*"):
        choose_claims(loaded, ["2.2-*"])
    scenarios = choose_scenarios(claims=["2.[23]-*"])
    assert [one.loaded.name for one in scenarios] == ["scenario-2.2", "scenario-2.3"]
    with pytest.raises(UsageError, match="no scenario has a claim 9-x"):
        choose_scenarios(claims=["9-x"])


@pytest.mark.parametrize("of", [1, 2, 3, 7, 40])
def test_parts_are_disjoint_and_whole(of):
    scenarios = choose_scenarios()
    every = [name for one in scenarios for name in one.claims]
    parts = [Shard.parse(f"{number}/{of}").take(scenarios) for number in range(1, of + 1)]
    assert [name for part in parts for one in part for name in one.claims] == every
    if of < 10:
        lengths = seconds_of_claims()
        seconds = [sum(lengths[name] for one in part for name in one.claims) for part in parts]
        assert max(seconds) < 1.5 * sum(seconds) / of


@cache
def seconds_of_claims():
    """About how long the runs of each claim take, as they are planned."""
    found = Counter()
    for stage in plan_stages(choose_scenarios()):
        for run in stage.runs:
            found[run.claim] += run_seconds(run.whole)
    return found


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "a/b", "1/0", "-1/2", ""])
def test_a_part_that_is_none(text):
    with pytest.raises(UsageError, match="expected NUMBER/OF"):
        Shard.parse(text)


def test_two_claims_of_one_name_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"two of the scenarios have a claim 2\.1-fa-mn-deaf"):
        plan_stages(two(tmp_path, "2.1-fa-mn-deaf"))


def test_two_scenarios_of_one_name_are_refused():
    file = data_dir("topologies") / "scenario-2.1.yaml"
    with pytest.raises(UsageError, match=r"two of the scenarios are called scenario-2\.1"):
        choose_scenarios(["scenario-2.1", str(file)])


def test_scenarios_by_default_and_by_stack(tmp_path):
    names = [one.loaded.name for one in choose_scenarios()]
    assert "scenario-2.1" in names and all(name.startswith("scenario-") for name in names)
    assert [one.loaded.name for one in two(tmp_path, stacks=["mip-in-ipsec"])] == ["scenario-2.1"]
    (only,) = choose_scenarios(["scenario-2.1"], ["mip-only"])
    assert {claim.configuration.stack for claim in only.claims.values()} == {"mip-only"}
    with pytest.raises(UsageError, match="no stack mip-onl") as caught:
        choose_scenarios(stacks=["mip-onl"])
    assert caught.value.hint == "did you mean mip-only?"
    with pytest.raises(UsageError, match="no claim speaks of ipsec-in-mip"):
        choose_scenarios(["scenario-2.1"], ["ipsec-in-mip"])
    with pytest.raises(UsageError, match="plain-mip makes no claims"):
        choose_scenarios(["plain-mip"])


def test_a_wrong_name_for_the_problems_of_another_is_an_error(tmp_path):
    """Only where scenarios are compared is it known which there are: built-in ones, and the user's own."""
    for name, problems in (("one", "scenaro-2.1"), ("two", "one"), ("three", "tow")):
        included = data_dir("topologies") / "scenario-2.2.yaml"
        text = f"name: {name}\ntitle: t\ninclude: [{included}]\nselection:\n  problems: {problems}\n"
        (tmp_path / f"{name}.yaml").write_text(text)
    files = [str(tmp_path / f"{name}.yaml") for name in ("one", "two", "three")]
    with pytest.raises(ErrorGroup) as caught:
        choose_scenarios(files)
    first, second = caught.value.errors
    assert str(first) == (
        f"{files[0]}:5:13: selection.problems: no scenario is called scenaro-2.1\n"
        "  hint: did you mean scenario-2.1?"
    )
    assert second.exit_code == 4 and second.hint == "did you mean two?"


def runs_of(labs):
    return sorted((run.claim, run.kind) for lab in labs for stage in lab.stages for run in stage.runs)


def test_stages_with_the_same_nodes_take_turns_in_one_lab():
    _, stages = planned()
    labs = share_labs(stages, 1)
    (shared,) = [lab for lab in labs if len(lab.stages) > 1]
    assert {stage.topology.name for stage in shared.stages} == {"scenario-2.1"} and len(shared.stages) == 5
    first, *others = [render_lab(stage.topology, lab="x", secrets=REDACTED).nodes for stage in shared.stages]
    differ = [{name for name in first if first[name] != other[name]} for other in others]
    # Agents merge segments where IPsec carries none of them; another gateway comes once, at the end.
    assert differ[:2] == [{"mn"}] * 2 and "gw" not in differ[2] and "gw" in differ[3]
    assert runs_of(labs) == runs_of([PlannedLab(stages)])


def test_a_lab_grows_for_stages_with_more_nodes():
    _, stages = planned("2.5-perimeter-grows", ref="scenario-2.5")
    for order in (stages, stages[::-1]):
        (grows,) = [lab for lab in share_labs(order, 1) if lab.stages[0].topology.name == "scenario-2.5"]
        nodes = [set(stage.topology.topology.nodes) for stage in grows.stages]
        assert [len(each) for each in nodes] == [11, 13, 17] and nodes[0] < nodes[1] < nodes[2]


def test_the_stage_that_follows_replaces_the_fewest_nodes():
    _, stages = planned(ref="scenario-2.2")
    for order in (stages, stages[::-1]):
        (lab,) = [lab for lab in share_labs(order, 1) if len(lab.stages) > 3]
        made = [render_lab(stage.topology, lab="x", secrets=REDACTED).nodes for stage in lab.stages]
        fixed = [{name: node for name, node in each.items() if name != "mn"} for each in made]
        for at in range(1, len(fixed)):
            replaced = [sum(each[name] != fixed[at - 1][name] for name in each) for each in fixed[at:]]
            assert replaced[0] == min(replaced), replaced


def test_a_lab_loses_nodes_and_networks_change_their_kinds_from_stage_to_stage(tmp_path):
    topologies = {name: tmp_path / f"{name}.yaml" for name in ("with", "without")}
    for file in topologies.values():
        file.write_text("name: guests\ntitle: Guests\ninclude: [plain-mip.yaml]\n")
    with topologies["with"].open("a") as file:
        file.write("nodes:\n  guest: {roles: [correspondent], links: {home: 192.0.2.20}}\n")
        file.write("networks: {hotel: {domain: operator}}\n")
    run = {"steps": [{"move": "hotel"}], "expect": [BOUND]}
    claim = Claim.model_validate(
        {
            "says": "x",
            "source": "x",
            "run": [{"topology": str(topologies["with"]), **run} for _ in range(2)],
            "control": {"topology": str(topologies["without"]), **run},
        }
    )
    (lab,) = share_labs(plan_stages([Scenario(load_topology("plain-mip"), {"x": claim})]), 1)
    assert ["guest" in stage.topology.nodes for stage in lab.stages] == [True, False]
    domains = [stage.topology.topology.networks["hotel"].domain for stage in lab.stages]
    assert domains == ["operator", "internet"]


@pytest.mark.parametrize(
    ("change", "labs"),
    [("network.internet.delay=20ms", 2), ("node.fa-hotspot.lifetime=20s", 1), ("option.attach=hotel", 1)],
)
def test_other_networks_are_another_lab(change, labs):
    claim = {"says": "x", "source": "x", "control": {"steps": [{"move": "hotel"}], "expect": [BOUND]}}
    runs = [{"sets": sets, "steps": [{"move": "hotel"}], "expect": [BOUND]} for sets in ([], [change])]
    scenario = Scenario(load_topology("plain-mip"), {"x": Claim.model_validate({**claim, "run": runs})})
    stages = plan_stages([scenario])
    assert [len(stage.runs) for stage in stages] == [2, 1]  # the control needs what one of the runs needs
    assert len(share_labs(stages, 1)) == labs


def test_a_lab_that_is_busy_for_long_is_divided_where_that_ends_earlier():
    _, stages = planned()
    whole, divided = share_labs(stages, 1), share_labs(stages, 3)
    assert len(divided) > len(whole) and runs_of(divided) == runs_of(whole)
    assert max(one.seconds for one in divided) < max(one.seconds for one in whole)
    assert [one.seconds for one in divided] == sorted((one.seconds for one in divided), reverse=True)
    only = replace(stages[0], runs=stages[0].runs * 3)
    assert len(share_labs([only], 3)) > 1


def test_a_lab_is_left_whole_where_dividing_gains_nothing():
    _, stages = planned()
    assert share_labs([], 3) == []
    short = replace(stages[0], runs=stages[0].runs[:2])
    assert PlannedLab([short]).seconds < 3 * LAB_SECONDS
    assert share_labs([short], 2) == [PlannedLab([short])]


# The evidence folder


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to-mother.txt").touch()
    with pytest.raises(UsageError, match="holds no evidence"):
        Evidence(tmp_path / "letters")
    with pytest.raises(UsageError, match="not a folder"):
        Evidence(tmp_path / "letters" / "to-mother.txt")


def test_old_evidence_is_replaced(tmp_path):
    first = Evidence(tmp_path)
    folder = first.run_folder("x", "run")
    (folder / "captures").mkdir()
    (folder / "captures" / "mn-hotel.pcap").touch()
    (folder / "run.json").touch()
    first.write("verdicts.json", Verdicts(claims=[]))
    again = Evidence(tmp_path).run_folder("x", "run")
    assert again == folder and not [one for one in again.rglob("*") if one.is_file()]
    assert run_path("x", "control") == "claims/x/control/"
    assert run_path("x", "run", 2) == "claims/x/main-2/"


def test_labs_of_one_name_that_differ_have_topologies_of_their_own(tmp_path):
    evidence = Evidence(tmp_path)
    own, home, hotel = (
        load_topology("scenario-2.1", sets=sets) for sets in ((), ["attach=home"], ["attach=hotel"])
    )
    evidence.write_topology(own.text())
    kept = {evidence.keep_topology(one) for one in (own, home, home, hotel, own)}
    texts = {(tmp_path / path).read_text() for path in kept}
    assert texts == {own.text(), home.text(), hotel.text()} and "topology.yaml" in kept
    assert len(list((tmp_path / "topologies").iterdir())) == len(kept) - 1


@pytest.mark.parametrize("keys", [False, True])
def test_evidence_holds_keys_only_where_asked_for(tmp_path, keys):
    secrets = Secrets(ike_psk="the-psk", mobility_key="00112233445566778899aabbccddeeff")
    lab = render_lab(load_topology("scenario-2.1"), lab="x", secrets=secrets if keys else REDACTED)
    Evidence(tmp_path, keys=keys).write_rendered(lab)
    files = [file for file in (tmp_path / "rendered").rglob("*") if file.is_file()]
    holding = [
        file for file in files if "the-psk" in file.read_text() or secrets.mobility_key in file.read_text()
    ]
    assert {file.name for file in holding} == (
        {"swanctl.conf", "roam.toml", "home-agent.toml", "mobile-node.toml"} if keys else set()
    )
    assert all(file.stat().st_mode & 0o077 == 0 for file in holding)
    assert "<redacted>" in (tmp_path / "rendered/x/gw/etc/swanctl/swanctl.conf").read_text() or keys


# A verification without an engine


class PlayedEngine:
    address = "played"

    def facts(self):
        return type("Facts", (), dict.fromkeys(("name", "version", "api", "kernel", "host"), "played"))()

    def image_id(self, name):
        return f"sha256:{name}"


@pytest.fixture
def stage(monkeypatch, tmp_path):
    """Labs that come up at once; `stage.results` decides what the runs come to."""

    played = SimpleNamespace(up=[], down=[], ran=[], results={}, refused=(), hold=None)
    played.monkeypatch = monkeypatch

    def bring_up(engine, topology, *, lab, **_):
        if topology.name in played.refused:
            raise TestbedError("no room")
        played.up.append(lab)

    def runs(self, stage, name, label, *, last):
        for one in stage.runs:
            if played.hold:
                played.hold(self)
            played.ran.append((one.claim, one.kind))
            good = RunResult([Finding("it is so", True, "seen")])
            key = one.claim, one.kind, one.number
            self.results[key] = played.results.get(key, good)

    monkeypatch.setattr(crew_module, "bring_up", bring_up)
    monkeypatch.setattr(crew_module, "remove_labs", lambda engine, name: played.down.append(name))
    monkeypatch.setattr(crew_module.Crew, "_runs", runs)
    monkeypatch.setattr(crew_module, "read_labs", lambda engine: {})
    played.verification = Verification(PlayedEngine(), "image", None, Evidence(tmp_path))
    return played


def test_verdicts_are_written_and_labs_taken_down(stage, tmp_path):
    scenario, labs = planned()
    stage.results["2.1-fa-mn-deaf", "run", 1] = RunResult([Finding("deaf", False, "heard")])
    verdicts = stage.verification.verify(scenario, apart(labs))
    assert [one.id for one in verdicts.claims] == list(scenario.claims)
    wrong = [one.id for one in verdicts.claims if one.verdict != "reproduced"]
    assert wrong == ["2.1-fa-mn-deaf"]
    assert json.loads((tmp_path / "verdicts.json").read_text()) == verdicts.document
    assert (tmp_path / "topology.yaml").read_text().startswith("name: scenario-2.1")
    assert sorted(stage.up) == sorted(stage.down) and len(stage.up) == 9


def test_a_lab_that_does_not_come_up_makes_its_claims_inconclusive(stage):
    scenario, labs = planned()
    stage.refused = ("figure-10",)
    verdicts = stage.verification.verify(scenario, apart(labs))
    (one,) = [one for one in verdicts.claims if one.verdict != "reproduced"]
    assert one.id == "fig10-trusted-fa" and one.verdict == "inconclusive" and "no room" in one.reason
    assert set(stage.up) < set(stage.down) and len(set(stage.down)) == 9  # what was half there too


def test_stages_of_a_lab_follow_one_another_in_it(stage, tmp_path):
    scenario, stages = planned()
    (shared,) = [lab for lab in share_labs(stages, 1) if len(lab.stages) > 1]
    verdicts = stage.verification.verify(scenario, [shared])
    assert len(set(stage.up)) == 1 and len(stage.up) == len(shared.stages) and len(stage.down) == 1
    assert len(stage.ran) == len(runs_of([shared]))
    assert {one.verdict for one in verdicts.claims} == {"reproduced", "inconclusive"}


def test_a_stage_that_does_not_come_up_leaves_the_others_a_new_lab(stage, monkeypatch):
    scenario, stages = planned()
    (shared,) = [lab for lab in share_labs(stages, 1) if len(lab.stages) > 1]
    bring_up = crew_module.bring_up
    refused = shared.stages[1].topology

    def second_fails(engine, topology, **options):
        if topology is refused:
            raise TestbedError("no room")
        bring_up(engine, topology, **options)

    monkeypatch.setattr(crew_module, "bring_up", second_fails)
    stage.verification.verify(scenario, [shared])
    assert len(stage.up) == len(shared.stages) - 1 and len(stage.down) == 2
    assert len(stage.ran) == len(runs_of([shared])) - len(shared.stages[1].runs)


def test_several_runs_of_a_claim_must_all_hold(stage, tmp_path):
    more = tmp_path / "more.yaml"
    more.write_text(
        "name: more\ntitle: Several runs\ninclude: [INCLUDED]\nclaims:\n"
        "  mine:\n    says: so it is\n    source: §1\n"
        "    run: [registers-through-fa, {trial: registers-through-fa, options: {attach: hotel}}]\n"
        "    control: [registers-through-fa]\n".replace(
            "INCLUDED", str(data_dir("topologies") / "scenario-2.1.yaml")
        )
    )
    scenario, labs = planned("mine", ref=more)
    runs = {(run.kind, run.number): lab.topology.options["attach"] for lab in labs for run in lab.runs}
    assert runs == {("run", 1): "home", ("run", 2): "hotel", ("control", 1): "home"}
    stage.results["mine", "run", 1] = RunResult([Finding("a", True, "seen")], lab="x", seconds=1.0)
    stage.results["mine", "run", 2] = RunResult([Finding("b", False, "missed")], lab="y", seconds=2.0)
    stage.verification = Verification(PlayedEngine(), "image", None, Evidence(tmp_path / "evidence"))
    (one,) = stage.verification.verify(scenario, apart(labs)).claims
    assert one.verdict == "refuted" and one.reason == "run 2: b: missed"
    came = {"verdict": "failed", "lab": "x, y", "seconds": 3.0, "times": [1.0, 2.0]}
    came |= {"notes": [], "error": None, "health": None}
    assert one.run.model_dump() == came
    assert [each.run for each in one.evidence] == ["main", "main-2", "control"]
    read = read_evidence(tmp_path / "evidence")
    (claim,) = read.verdicts.claims
    assert [each.expectation for each in claim.findings("main")] == ["a", "b"]
    assert "<code>main-2</code> b" in render_report(read)


def test_several_scenarios_are_decided_together(stage, tmp_path):
    scenarios = two(tmp_path)
    stage.verification = Verification(PlayedEngine(), "image", None, Evidence(tmp_path / "evidence"))
    verdicts = stage.verification.verify_all(scenarios, apart(plan_stages(scenarios)))
    assert verdicts.scenario == ""
    of = {one.id: one.scenario for one in verdicts.claims}
    assert of["2.1-fa-mn-deaf"] == "scenario-2.1" and of["theirs"] == "own"
    shows = {one.id: (one.shows, one.problem) for one in verdicts.claims}
    assert shows["2.1-colocated-renegotiates"] == ("costs", "renegotiation-per-move")
    assert {file.name for file in (tmp_path / "evidence" / "topologies").iterdir()} >= {
        "own.yaml",
        "scenario-2.1.yaml",
    }
    assert not (tmp_path / "evidence" / "topology.yaml").exists()


def tried(stage, tmp_path, outcomes, **options):
    """A verification in which the runs of a claim come to what `outcomes` says, attempt by attempt."""
    verification = Verification(PlayedEngine(), "image", None, Evidence(tmp_path / "evidence"), **options)

    def runs(self, stage, name, label, *, last):
        for one in stage.runs:
            if self._stopping.is_set():
                return
            folder = verification.evidence.run_folder(one.claim, one.kind, one.number)
            (folder / "run.json").write_text(f"attempt {self._attempt}")
            held = outcomes.get((one.claim, one.kind), ())[self._attempt - 1 : self._attempt] != [False]
            self._took_place(one, RunResult([Finding("it is so", held, "seen")]))

    stage.monkeypatch.setattr(crew_module.Crew, "_runs", runs)
    return verification


def test_a_claim_that_is_reproduced_at_the_second_attempt_is_flaky(stage, tmp_path):
    outcomes = {("2.1-fa-mn-deaf", "run"): [False, True], ("2.1-inside-mobility", "run"): [False] * 3}
    scenario, labs = planned_apart()
    verdicts = tried(stage, tmp_path, outcomes, retries=2).verify(scenario, labs)
    found = {one.id: one for one in verdicts.claims}
    assert [*found] == [*scenario.claims]
    flaky, refuted = found["2.1-fa-mn-deaf"], found["2.1-inside-mobility"]
    assert flaky.flaky and flaky.verdict == "reproduced"
    assert [(one.verdict, one.folder) for one in flaky.attempts] == [("refuted", "attempts/1")]
    assert not refuted.flaky and refuted.verdict == "refuted"
    assert [one.folder for one in refuted.attempts] == ["attempts/1", "attempts/2"]
    assert not any(one.attempts for one in verdicts.claims if one not in (flaky, refuted))
    folder = tmp_path / "evidence"
    kept = [(folder / at / run_path("2.1-fa-mn-deaf", "run") / "run.json") for at in ("attempts/1", ".")]
    assert [file.read_text() for file in kept] == ["attempt 1", "attempt 2"]
    assert verdicts == read_evidence(folder).verdicts
    again = tried(stage, tmp_path, {}).verify(*planned_apart("2.1-fa-mn-deaf"))
    assert not again.claims[0].attempts and not (folder / "attempts").exists()


def test_an_attempt_whose_labs_do_not_come_up_forgets_no_version(stage, tmp_path):
    verification = tried(stage, tmp_path, {("2.1-fa-mn-deaf", "run"): [False]}, retries=1)
    runs = crew_module.Crew._runs

    def describe(self, *arguments, last):
        self.programs, self.machine = {"bird2": "2.17"}, Machine(cpu="A Processor", cpus=2, load=0.5)
        runs(self, *arguments, last=last)
        stage.refused = ("scenario-2.1",)

    stage.monkeypatch.setattr(crew_module.Crew, "_runs", describe)
    (one,) = verification.verify(*planned_apart("2.1-fa-mn-deaf")).claims
    assert "no room" in one.reason
    versions = read_evidence(tmp_path / "evidence").versions
    assert versions.programs == {"bird2": "2.17"} and versions.machine.cpu == "A Processor"


def test_without_retries_nothing_is_tried_again(stage, tmp_path):
    outcomes = {("2.1-fa-mn-deaf", "run"): [False, True]}
    verdicts = tried(stage, tmp_path, outcomes).verify(*planned_apart("2.1-fa-mn-deaf"))
    assert [one.verdict for one in verdicts.claims] == ["refuted"]


def test_fail_fast_leaves_the_rest_untried(stage, tmp_path):
    scenario, stages = planned()
    first = stages[0].runs[0]
    outcomes = {(first.claim, first.kind): [False]}
    verification = tried(stage, tmp_path, outcomes, fail_fast=True, jobs=1)
    verdicts = verification.verify(scenario, apart(stages))
    assert not any(one.verdict == "reproduced" for one in verdicts.claims)
    why = f"not tried: --fail-fast, and {first.claim} did not hold"
    others = [one for one in verdicts.claims if one.id != first.claim]
    assert others and all(why in one.reason for one in others)
    assert stage.up == stage.down == [stage.up[0]]
    record = RunFolder(tmp_path / "evidence" / run_path(stages[-1].runs[0].claim, "run")).record
    assert record.error == why


def test_keep_leaves_the_labs(stage):
    stage.verification.keep = True
    stage.verification.verify(*planned_apart("2.1-fa-mn-deaf"))
    assert stage.up and not stage.down


def test_labs_of_a_second_attempt_are_kept_one_for_each_stage(stage, tmp_path):
    claims = ("2.1-fa-mn-deaf", "2.1-inside-mobility")
    again = plan_stages([planned_apart(claim)[0] for claim in claims])
    assert len(again) > len(share_labs(again, 1))  # they would take turns
    outcomes = {(claim, "run"): [False, True] for claim in claims}
    verification = tried(stage, tmp_path, outcomes, retries=1, keep=True, jobs=1)
    verdicts = verification.verify(*planned_apart())
    assert {one.verdict for one in verdicts.claims if one.attempts} == {"reproduced"}
    assert len(set(stage.up)) == len(stage.up) and not stage.down


def test_keep_leaves_a_lab_that_did_not_come_up_for_people_to_look_at(stage):
    stage.verification.keep, stage.refused = True, ("scenario-2.1",)
    stage.verification.verify(*planned_apart("2.1-fa-mn-deaf"))
    assert not stage.up and not stage.down


def test_runs_in_an_existing_lab_come_one_after_the_other(stage, monkeypatch):
    """Also those of a stage that was divided so that two labs could share it."""
    scenario, stages = planned("2.1-fa-mn-deaf")
    (only,) = stages
    halves = PlannedLab([only]).halves()
    assert all(half.stages[0].runs for half in halves)
    running, most = [], []

    def runs(self, stage, name, label, *, last):
        running.append(label)
        most.append((len(running), label, last))
        time.sleep(0.05)
        running.remove(label)

    monkeypatch.setattr(crew_module.Crew, "_runs", runs)
    monkeypatch.setattr(crew_module.Crew, "_is", lambda self, actual, topology: True)
    monkeypatch.setattr(crew_module, "find_lab", lambda engine, name: ActualLab(name, (), ()))
    stage.verification.existing = "mine"
    stage.verification.verify(scenario, halves)
    assert most == [(1, "mine", True)] * 2  # and none of them takes anything down for the next
    assert not stage.up and not stage.down


def test_a_mistake_of_ours_ends_everything_and_takes_labs_down(stage):
    def hold(crew):
        raise ZeroDivisionError

    stage.hold = hold
    with pytest.raises(ZeroDivisionError):
        stage.verification.verify(*planned_apart())
    assert sorted(stage.down) == sorted(stage.up)


def test_interrupted_it_takes_down_what_it_brought_up(stage, monkeypatch):
    going = threading.Event()

    def hold(crew):
        going.set()
        deadline = time.monotonic() + 10
        while not crew._stopping.is_set() and time.monotonic() < deadline:
            time.sleep(0.01)
        raise crew_module.Stopped("told to stop")

    def interrupted(*_):
        going.wait(5)
        raise KeyboardInterrupt

    stage.hold = hold
    monkeypatch.setattr(crew_module, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stage.verification.verify(*planned_apart())
    assert stage.up and sorted(stage.down) == sorted(stage.up) and not stage.ran


def test_interrupted_while_a_lab_comes_up_it_does_not_wait_for_it(stage, monkeypatch):
    going = threading.Event()

    def bring_up(engine, topology, *, lab, stopping, **_):
        going.set()
        deadline = time.monotonic() + 10
        while not stopping():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        stage.up.append(lab)
        raise KeyboardInterrupt  # it has removed what it made

    def interrupted(*_):
        going.wait(5)
        raise KeyboardInterrupt

    monkeypatch.setattr(crew_module, "bring_up", bring_up)
    monkeypatch.setattr(crew_module, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stage.verification.verify(*planned_apart())
    assert stage.up and not stage.down and not stage.ran


def test_the_played_lab_is_like_the_real_one():
    assert PlayedLab().mobile_node == "mn"


REPEATED = """\
name: repeated
title: Runs name what is there only with more links
include: [scenario-2.5.yaml]
claims:
  boxes:
    says: A box is there
    source: §2.5
    run:
      options: {further-links: 3}
      steps: [{ping: {from: cn, to: gw-3}}]
      expect: [{daemons: {node: gw-3, running: charon}}]
    control:
      options: {further-links: 1}
      steps: [{ping: {from: cn, to: gw-1}}]
      expect: [{daemons: {node: gw-CONTROL, running: charon}}]
"""


def test_runs_name_repeated_nodes_of_their_own_lab(tmp_path):
    file = tmp_path / "repeated.yaml"
    file.write_text(REPEATED.replace("CONTROL", "1"))
    planned("boxes", ref=file)
    file.write_text(REPEATED.replace("CONTROL", "2"))
    with pytest.raises(TopologyError, match=r"unknown node gw-2 \(repeated\)") as caught:
        planned("boxes", ref=file)
    assert caught.value.source is not None and caught.value.source.line == 15


def test_a_lab_that_no_run_fits_and_what_would_make_it_fit(monkeypatch, tmp_path):
    monkeypatch.setattr(crew_module, "find_lab", lambda engine, name: ActualLab(name, (), ()))
    verification = Verification(None, "image", None, Evidence(tmp_path / "evidence"), existing="mine")
    with pytest.raises(UsageError, match="no run can take place in lab mine as it is") as caught:
        verification.verify(*planned_apart("2.1-colocated-registers"))
    up = "testbed up scenario-2.1 --name mine --set option.stack=mip-"
    assert caught.value.hint.startswith(f"needed: {up}only --set option.attach=home; or {up}in-ipsec ")
    own = tmp_path / "my own.yaml"
    own.write_text("name: own\ntitle: Own\ninclude: [scenario-2.1.yaml]\n")
    with pytest.raises(UsageError) as caught:
        verification.verify(*planned_apart("2.1-colocated-registers", ref=own))
    assert f"testbed up '{own}' --name mine " in caught.value.hint
