from __future__ import annotations

import json
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from testbed.cli import main
from testbed.experiment.claims.plan import Scenario, plan_stages
from testbed.report.evidence import read_evidence
from testbed.report.explain import explain
from testbed.report.story import story
from testbed.topology.load import builtin_claims, load_topology
from testbed.topology.loaded import LoadedTopology

CLAIMS = builtin_claims()
WIDTH = 78


Labs = dict[tuple[str, int], LoadedTopology]
"""The lab of each run of a claim."""


@cache
def planned(topology: str, claims: frozenset[str]) -> tuple[LoadedTopology, dict[str, Labs]]:
    """A topology, and the labs that some of its claims need."""
    loaded = load_topology(topology)
    labs: dict[str, Labs] = defaultdict(dict)
    for stage in plan_stages([Scenario(loaded, {name: loaded.topology.claims[name] for name in claims})]):
        for run in stage.runs:
            labs[run.claim][run.kind, run.number] = stage.topology
    return loaded, labs


@cache
def told(name: str, topology: str | None = None, evidence: Path | None = None) -> dict[str, Any]:
    topology = topology or CLAIMS[name]
    together = {one for one, where in CLAIMS.items() if where == topology}
    loaded, labs = planned(topology, frozenset(together | {name}))
    return explain(loaded, name, labs[name], read_evidence(evidence) if evidence else None)


def ways(name: str, kind: str = "run", number: int = 1, of: str = "data") -> list[str]:
    return [way["line"] for way in told(name)[kind][number - 1]["ways"] if way["of"] == of]


@pytest.mark.parametrize("name", CLAIMS)
def test_every_claim_can_be_explained(name: str) -> None:
    one = told(name)
    text = story(one, WIDTH)
    assert one["says"] in " ".join(text.split()) and one["source"] in " ".join(text.split())
    for kind in ("run", "control"):
        for run in one[kind]:
            assert run["ways"] and run["steps"] and run["expect"]
            for part in (*run["steps"], *run["expect"]):
                assert part["text"] in " ".join(text.split())
    assert any(one["differences"]), "a control that does what the run does"
    assert one["opposites"], "nothing in which the control denies the run"
    assert all(len(line) <= WIDTH for line in text.splitlines() if " " in line.strip())
    assert not any(line != line.rstrip() for line in text.splitlines())


@pytest.mark.parametrize(
    ("name", "kind", "lines"),
    [
        (
            "2.1-fa-mn-deaf",
            "run",
            ["mn@hotspot ==ESP[IP-in-IP[data]]==> ✗ fa-hotspot ··> gw ··> ha ··> cn"],
        ),
        (
            "2.1-inside-mobility",
            "run",
            [
                "mn@home --data--> cn",
                "mn@office --data--> fa-office --IP-in-IP[data]--> ha --data--> cn",
                "mn@campus --IP-in-IP[data]--> ha --data--> cn",
            ],
        ),
        (
            "2.1-inside-mobility",
            "control",
            [
                "mn@home --data--> cn",
                "mn@office --data--> fa-office --IP-in-IP[data]--> ✗ ha ··> cn",
            ],
        ),
        ("2.1-gateway-guards", "run", ["mn@hotel --IP-in-IP[data]--> ✗ gw ··> ha ··> cn"]),
        (
            "fig10-trusted-fa",
            "run",
            [
                "mn@home --data--> cn",
                "mn@hotspot --data--> trusted-fa ==ESP[IP-in-IP[data]]==> gw --IP-in-IP[data]--> ha "
                "--data--> cn",
            ],
        ),
        (
            "2.2-ipsec-in-mip-needs-routing",
            "run",
            [
                "mn@airport ==IP-in-IP[ESP[data]]==> ha ==ESP[data]==> gw --data--> cn",
                "cn --data--> ha --IP-in-IP[data]--> mn@airport",
            ],
        ),
        (
            "2.3-routing-resolved",
            "run",
            [
                "mn@hotel|airport ==IP-in-IP[ESP[data]]==> gw --data--> cn",
                "mn@hotspot ==ESP[data]==> fa-hotspot ==IP-in-IP[ESP[data]]==> gw --data--> cn",
            ],
        ),
        (
            "2.4-no-mobility-inside",
            "run",
            [
                "mn@hotel|airport ==IP-in-IP[ESP[data]]==> ha ==ESP[data]==> gw --data--> cn",
                "mn@campus ==IP-in-IP[ESP[data]]==> ✗ gw ··> ha ··> gw ··> cn",
            ],
        ),
        (
            "3519-between-nats",
            "run",
            [
                "mn@cafe --MIP-UDP[data]--> cafe-nat --MIP-UDP[data]--> ha --data--> cn",
                "mn@cafe-2 --MIP-UDP[data]--> cafe-2-nat --MIP-UDP[data]--> ha --data--> cn",
                "mn@hotel --IP-in-IP[data]--> ha --data--> cn",
            ],
        ),
        (
            "3519-between-nats",
            "control",
            [
                "mn@hotel --IP-in-IP[data]--> ha --data--> cn",
                "mn@cafe --IP-in-IP[data]--> ✗ cafe-nat ··> ha ··> cn",
            ],
        ),
        (
            "2.1-wlan-outside",
            "run",
            [
                "mn@desks --IP-in-IP[data]--> ha --data--> cn",
                "✗ mn@wlan ··> gw ··> ha ··> cn",
                "mn@wlan ==ESP[IP-in-IP[data]]==> gw --IP-in-IP[data]--> ha --data--> cn",
            ],
        ),
        (
            "2.4-registers-without-ipsec",
            "run",
            ["✗ mn@airport ··> ha ··> gw ··> cn", "✗ mn@hotspot ··> fa-hotspot ··> ha ··> gw ··> cn"],
        ),
    ],
)
def test_the_way_follows_from_the_topology(name: str, kind: str, lines: list[str]) -> None:
    assert ways(name, kind) == lines


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("2.1-fa-mn-deaf", []),  # no expectation is about a registration
        ("2.1-fa-registration-impossible", ["mn@hotspot ==ESP[request]==> ✗ fa-hotspot ··> gw ··> ha"]),
        (
            "2.1-fa-cleartext-no-help",
            [
                "mn@hotel ==ESP[request]==> gw --request--> ha",
                "mn@hotspot ==ESP[request]==> ✗ fa-hotspot ··> gw ··> ha",
                # a step that registers in clear
                "mn@hotspot --request--> fa-hotspot --request--> ✗ gw ··> ha",
            ],
        ),
        (
            "2.1-fa-data-dropped",  # the gateway lets registrations through
            ["mn@hotspot --request--> fa-hotspot --request--> gw --request--> ha"],
        ),
        (
            "2.4-registers-without-ipsec",  # the home agent is not behind the gateway, as data is
            ["mn@airport --request--> ha", "mn@hotspot --request--> fa-hotspot --request--> ha"],
        ),
        (
            "2.1-wlan-outside",
            [
                "mn@desks --request--> ha",
                "mn@wlan --request--> ✗ gw ··> ha",
                "mn@wlan ==ESP[request]==> gw --request--> ha",
            ],
        ),
        ("fig10-trusted-fa", ["mn@hotspot --request--> trusted-fa ==ESP[request]==> gw --request--> ha"]),
    ],
)
def test_the_way_of_registration_requests(name: str, lines: list[str]) -> None:
    assert ways(name, of="request") == lines
    assert ("The way of registration requests, by the topology:" in story(told(name), WIDTH)) == bool(lines)


def test_a_stopped_home_agent_takes_no_request(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    run = (
        "{options: {stack: mip-only}, steps: [{service: {node: ha, name: home-agent, state: down}}, "
        "{move: office}], expect: [{binding: {present: false}}]}"
    )
    file.write_text(
        f"name: mine\ntitle: Mine\ninclude: [scenario-2.1.yaml]\nclaims:\n  mine: {{says: x, source: x, "
        f"run: {run}, control: {run}}}\n"
    )
    (way,) = [way for way in told("mine", str(file))["run"][0]["ways"] if way["of"] == "request"]
    assert way["line"] == "mn@office --request--> fa-office --request--> ✗ ha"
    assert way["ends"] == "the home agent of ha is stopped"


def test_every_mobile_node_of_a_lab_is_drawn_where_it_is() -> None:
    assert ways("2.5-perimeter-grows", number=3) == [
        "mn@hotel ==IP-in-IP[ESP[data]]==> gw --data--> cn",
        *(f"mn-{n}@hotel ==IP-in-IP[ESP[data]]==> gw-{n} --data--> cn" for n in (1, 2, 3)),
    ]
    (place, _) = told("2.5-perimeter-grows")["where"]
    assert {"gw-3", "mn-3"} <= {one["node"] for one in place["nodes"]}


@pytest.mark.parametrize(
    ("name", "differences"),
    [
        (
            "fig10-trusted-fa",
            ["without “session start”", "also “service node trusted-fa, name charon, state down”"],
        ),
        (
            "2.1-wlan-outside",
            ["“move to home” in the place of “move to wlan”", "without “ipsec down” and “ipsec up”"],
        ),
    ],
)
def test_a_step_stands_in_the_place_of_a_step_of_its_kind_only(name: str, differences: list[str]) -> None:
    assert told(name)["differences"] == [differences]


@pytest.mark.parametrize(("asked", "header"), [("gre", "GRE"), ("minimal", "Min-Enc")])
def test_the_way_shows_the_encapsulation_that_the_mobile_node_asks_for(asked: str, header: str) -> None:
    loaded = load_topology("scenario-2.4", sets=[f"node.mn.encapsulation={asked}"])
    name = "2.4-ipsec-in-mip-mobile"
    scenario = Scenario(loaded, {name: loaded.topology.claims[name]})
    labs = {(run.kind, run.number): stage.topology for stage in plan_stages([scenario]) for run in stage.runs}
    lines = [way["line"] for way in explain(loaded, name, labs)["run"][0]["ways"]]
    assert f"mn@hotel|airport =={header}[ESP[data]]==> ha ==ESP[data]==> gw --data--> cn" in lines


def test_what_differs_and_what_comes_out_opposite() -> None:
    one = told("2.1-fa-blocks-ipsec")
    assert one["differences"] == [["“move to hotel” in the place of “move to hotspot”"]]
    assert {
        "run": "packets at fa-hotspot/internet matching ‘ipsec’: none",
        "control": "packets at hotel-router/internet matching ‘ipsec’: at least 1",
    } in one["opposites"]
    assert one["filters"][0] == {
        "name": "ipsec",
        "filter": "esp or udp port 500 or udp port 4500",
        "remark": "",
    }
    other = told("2.1-fa-registration-impossible")
    assert (
        "it takes place in plain-mip (Plain Mobile IPv4 with a home agent everybody can reach)"
        in (other["differences"][0])
    )
    assert other["remark"] == "no IPsec, and a home agent in reach"
    assert other["run"][0]["expect"][-1]["remark"] == "it did try"


def test_a_control_is_compared_with_the_run_that_it_is_nearest_to() -> None:
    one = told("2.1-exit-no-cleartext")
    assert one["nearest"] == [1, 1]
    assert len(one["differences"][1]) == 2 and not any("carry" in text for text in one["differences"][1])
    assert "What is different from run 1:" in story(one, WIDTH)


def test_a_drawing_says_where_it_holds_for_a_while_only() -> None:
    (inside, carried) = told("2.1-exit-no-cleartext")["run"][0]["ways"]
    assert not inside["note"] and "as long as mn keeps" in carried["note"]


def test_a_control_that_denies_nothing_shows(tmp_path: Path) -> None:
    loaded = load_topology("scenario-2.1")
    text = loaded.text().replace("        - heard: fa-hotspot\n", "        - mobile-node: not-registered\n")
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    assert told("2.1-fa-mn-deaf")["opposites"]
    assert not told("2.1-fa-mn-deaf", str(file))["opposites"]


def write_evidence(folder: Path, name: str, *, held: bool) -> None:
    claim = load_topology(CLAIMS[name]).topology.claims[name]
    findings = [
        {
            "run": {"run": "main", "control": "control"}[kind],
            "expectation": one.phrase(),
            "held": held or kind == "control",
            "observed": f"seen in the {kind}",
        }
        for kind in ("run", "control")
        for _, run in claim.experiments(kind)  # type: ignore[arg-type]
        for _, one in run.expectations()
    ]
    verdict = {
        "id": name,
        "verdict": "reproduced" if held else "refuted",
        "reason": "" if held else "it was heard",
        "run": {"verdict": "held" if held else "failed"},
        "control": {"verdict": "held"},
        "evidence": findings,
    }
    document = {"schema_version": 1, "scenario": CLAIMS[name], "claims": [verdict]}
    (folder / "verdicts.json").write_text(json.dumps(document))
    captures = folder / "claims" / name / "main" / "captures"
    captures.mkdir(parents=True)
    (captures / "mn-hotspot.pcap").touch()


@pytest.mark.parametrize("held", [True, False])
def test_evidence_says_what_was_seen(
    held: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    write_evidence(tmp_path, "2.1-inside-mobility", held=held)
    assert main(["explain", "2.1-inside-mobility", "--evidence", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert f"This evidence says: {'reproduced' if held else 'refuted: it was heard'}." in out
    assert out.count("✓ seen in the run") == (11 if held else 0)
    assert out.count("✗ seen in the run") == (0 if held else 11)
    assert out.count("✓ seen in the control") == 2
    assert f"Captures in {tmp_path}:\n    claims/2.1-inside-mobility/main/captures/mn-hotspot.pcap\n" in out
    assert main(["explain", "2.1-fa-mn-deaf", "--evidence", str(tmp_path)]) == 2
    assert "has no verdict on 2.1-fa-mn-deaf" in capsys.readouterr().err


def test_claims_are_found_by_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "2.4-registers-without-ipsec", "-o", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["schema_version"], data["topology"]) == (1, "scenario-2.4")
    assert main(["explain", "2.1-fa-deaf"]) == 2
    assert "did you mean 2.1-fa-mn-deaf?" in capsys.readouterr().err
    assert main(["explain", "2.1-fa-mn-deaf", "scenario-2.2"]) == 2
    assert "scenario-2.2 has no claim 2.1-fa-mn-deaf" in capsys.readouterr().err
