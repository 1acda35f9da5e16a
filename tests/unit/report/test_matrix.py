"""The grid, the selection of section 3 and header overhead: from verdicts and captures, mutated ones too."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import plain_yaml
import pytest
from sample_evidence import MAC, START, pcap, write_sample
from sample_matrix import verdicts, write_matrix
from scapy.contrib.wireguard import Wireguard, WireguardInitiation, WireguardTransport
from scapy.layers.inet import IP, UDP
from scapy.layers.ipsec import ESP
from scapy.packet import Raw
from test_report import Checked

from testbed.agreed import PROBE_MARKER
from testbed.errors import Source
from testbed.evidence.verdicts import Verdicts
from testbed.experiment.claims.plan import choose_scenarios
from testbed.node import probe
from testbed.packet.pcap import LINUX_SLL2, read_capture
from testbed.report import github
from testbed.report.evidence import Evidence, read_evidence
from testbed.report.grid import Row, grid
from testbed.report.junit import junit
from testbed.report.overhead import ENOUGH, INNER, Overhead, compute, esp, overheads, probes, wireguard
from testbed.report.page import render_report
from testbed.report.selection import Selection, Statement, select

Decided = Callable[..., Evidence]


@pytest.fixture
def decided(tmp_path: Path) -> Decided:
    """The evidence of a matrix; arguments as for `sample_matrix.verdicts`."""
    return lambda *args, **more: read_evidence(write_matrix(tmp_path / "evidence", verdicts(*args, **more)))


def rows(evidence: Evidence) -> list[Row]:
    assert evidence.verdicts is not None
    return grid(evidence.verdicts, evidence.scenarios)


def selection(evidence: Evidence) -> Selection:
    assert evidence.verdicts is not None
    selected = select(evidence.verdicts, evidence.scenarios)
    assert selected is not None
    return selected


def said(evidence: Evidence) -> dict[str, Statement]:
    return {one.text: one for one in selection(evidence).statements}


def cells(evidence: Evidence) -> dict[tuple[str, str, str], list[str]]:
    return {
        (row.scenario[-3:], row.stack, row.attachment): [
            f"{e.text}: {', '.join(e.claims)}" for e in row.entries
        ]
        for row in rows(evidence)
    }


# The grid


def test_every_configuration_has_its_row(decided: Decided) -> None:
    found = cells(decided())
    assert found["2.1", "mip-only", "co-located"] == [
        "✓ works: 2.1-inside",
        "✗ home-agent-unreachable: 2.1-guards",
    ]
    assert found["2.1", "mip-only", "foreign-agent"] == ["✓ works: 2.1-inside"]  # said of every attachment
    assert found["2.2", "ipsec-in-mip", "co-located"] == [
        "✓ works: 2.2-mobile",
        "~ routing-change: 2.2-routing",
        "· holds: 2.2-away",
    ]
    assert found["2.3", "", ""] == ["~ single-vendor: 2.3-box"]  # of no configuration
    assert found["2.5", "mip-in-ipsec", "co-located"] == ["~ renegotiation-per-move: 2.5-moves"]


def test_a_configuration_that_no_claim_speaks_of_says_so(decided: Decided) -> None:
    (row,) = [one for one in rows(decided()) if not one.entries]
    assert (row.scenario, row.stack, row.attachment) == ("scenario-2.5", "mip-in-ipsec", "foreign-agent")
    assert not row.good


@pytest.mark.parametrize(("verdict", "sign"), [("refuted", "!"), ("inconclusive", "?")])
def test_what_is_not_reproduced_leads_and_shows_nothing(decided: Decided, verdict: str, sign: str) -> None:
    evidence = decided({"2.1-fa": verdict, "2.1-inside": verdict})
    found = cells(evidence)
    assert found["2.1", "mip-in-ipsec", "foreign-agent"] == [f"{sign} {verdict}: 2.1-fa"]
    assert found["2.1", "mip-only", "co-located"][0] == f"{sign} {verdict}: 2.1-inside"
    assert not any("works" in text for text in found["2.1", "mip-only", "co-located"])
    assert [row.good for row in rows(evidence)][:4] == [False, False, True, False]


def test_what_was_left_out_has_no_row(decided: Decided) -> None:
    found = cells(decided(left_out=["2.1-inside", "2.1-guards"]))
    assert not any(key[:2] == ("2.1", "mip-only") for key in found)


# Section 3


def test_the_selection_as_the_document_has_it(decided: Decided) -> None:
    evidence = decided()
    found = said(evidence)
    assert {text: one.state for text, one in found.items()} == {
        "P(2.2) ⊆ P(2.1)": "held",
        "P(2.3) = ∅": "held",
        "P(2.4) ⊆ P(2.1)": "held",
        "P(2.5) = ∅": "held",
    }
    assert found["P(2.2) ⊆ P(2.1)"].claims == ("2.2-fa", "2.1-fa", "2.2-moves", "2.1-moves", "2.2-mobile")
    assert found["P(2.5) = ∅"].claims == ("2.5-works",)
    sets = {one.short: list(one.problems) for one in selection(evidence).scenarios}
    assert sets == {
        "2.1": ["home-agent-unreachable", "fa-registration-impossible", "renegotiation-per-move"],
        "2.2": ["fa-registration-impossible", "renegotiation-per-move"],
        "2.3": [],
        "2.4": ["home-agent-unreachable"],
        "2.5": [],  # it is not deployed with MIPv4 inside IPsec
    }
    assert selection(evidence).conclusion == (
        "So to solve 2.1 is to solve 2.2 and 2.4 as well, and in 2.3 and 2.5 there is nothing to solve."
    )


def test_one_scenario_alone_concludes_nothing(decided: Decided) -> None:
    alone = selection(decided(without=[f"scenario-2.{n}" for n in range(2, 6)]))
    assert not alone.statements and alone.conclusion == ""


def test_what_would_follow_if_drawbacks_counted(decided: Decided) -> None:
    sentence = selection(decided()).if_drawbacks_counted
    assert "P(2.2) ⊆ P(2.1) would not hold (routing-change is not in 2.1)" in sentence
    assert "P(2.3) would not be empty (single-vendor)" in sentence
    assert "P(2.4)" not in sentence


def test_without_drawbacks_nothing_would_follow(decided: Decided) -> None:
    evidence = decided(dict.fromkeys(("2.2-routing", "2.3-box", "2.5-perimeter"), "refuted"))
    assert "nothing would change" in selection(evidence).if_drawbacks_counted


def test_undecided_drawbacks_say_nothing(decided: Decided) -> None:
    evidence = decided(dict.fromkeys(("2.2-routing", "2.3-box", "2.5-perimeter"), "inconclusive"))
    assert selection(evidence).if_drawbacks_counted == (
        "If drawbacks counted as problems, what would change is not decided "
        "(routing-change, single-vendor and perimeter-grows)."
    )


def test_a_refuted_claim_changes_the_set_and_the_inclusion_fails(decided: Decided) -> None:
    evidence = decided({"2.1-fa": "refuted"})
    assert "fa-registration-impossible" not in selection(evidence).scenarios[0].problems
    one = said(evidence)["P(2.2) ⊆ P(2.1)"]
    assert one.state == "not held" and one.claims == ("2.2-fa", "2.1-fa")
    assert "fa-registration-impossible, which is not shown in 2.1" in one.why
    assert "does not follow" in selection(evidence).conclusion


def test_a_smaller_set_is_still_included(decided: Decided) -> None:
    evidence = decided({"2.2-fa": "refuted"})
    assert list(selection(evidence).scenarios[1].problems) == ["renegotiation-per-move"]
    assert said(evidence)["P(2.2) ⊆ P(2.1)"].state == "held"


def test_what_does_not_work_is_a_problem_without_a_name(decided: Decided) -> None:
    found = said(decided({"2.3-works": "refuted", "2.4-works": "refuted"}))
    assert found["P(2.3) = ∅"].state == "not held" and found["P(2.3) = ∅"].claims == ("2.3-works",)
    assert found["P(2.4) ⊆ P(2.1)"].state == "not held"


@pytest.mark.parametrize(
    ("arguments", "text", "claims"),
    [
        ({"changed": {"2.1-fa": "inconclusive"}}, "P(2.2) ⊆ P(2.1)", ("2.1-fa",)),
        ({"left_out": ["2.1-fa"]}, "P(2.2) ⊆ P(2.1)", ("2.1-fa",)),
        ({"changed": {"2.2-mobile": "inconclusive"}}, "P(2.2) ⊆ P(2.1)", ("2.2-mobile",)),
        ({"left_out": ["2.3-works"]}, "P(2.3) = ∅", ("2.3-works",)),
        ({"without": ["scenario-2.1"]}, "P(2.2) ⊆ P(2.1)", ()),
    ],
)
def test_nothing_is_concluded_from_what_is_not_known(
    decided: Decided, arguments: dict[str, Any], text: str, claims: tuple[str, ...]
) -> None:
    one = said(decided(**arguments))[text]
    assert one.state == "undecided" and one.claims == claims and one.why


@pytest.mark.parametrize(
    ("changed", "text", "stack", "claims"),
    [
        (("2.2-fa", "2.2-moves"), "P(2.2) ⊆ P(2.1)", "mip-in-ipsec", ("2.2-fa", "2.2-moves")),
        (("2.2-mobile",), "P(2.2) ⊆ P(2.1)", "ipsec-in-mip", ()),
        (("2.3-works",), "P(2.3) = ∅", "ipsec-in-mip", ()),
    ],
)
def test_of_each_stack_deployed_something_says_what_it_does(
    tmp_path: Path, changed: Sequence[str], text: str, stack: str, claims: tuple[str, ...]
) -> None:
    """Claims refuted, or not there at all: what costs and is no problem does not say so either."""
    refuted = verdicts({name: "refuted" for name in changed if claims}, left_out=[] if claims else changed)
    folder = write_matrix(tmp_path / "evidence", refuted)
    for file in (folder / "topologies").iterdir() if not claims else ():
        written = plain_yaml.load(file.read_text())
        written["claims"] = {k: v for k, v in written["claims"].items() if k not in changed}
        file.write_text(plain_yaml.dump(written))
    one = said(read_evidence(folder))[text]
    assert (one.state, one.claims) == ("undecided", claims)
    assert f"nothing shows what {stack} does in {text[2:5]}" in one.why
    unseen = {one.short for one in selection(read_evidence(folder)).scenarios if one.unseen}
    assert unseen == {text[2:5]}


def test_the_shipped_scenarios_decide_all_four_statements() -> None:
    loaded = [one.loaded.topology for one in choose_scenarios()]
    claims = [
        {
            **claim.model_dump(include={"says", "source", "shows", "problem", "drawback"}),
            "configuration": claim.configuration.model_dump() if claim.configuration else None,
            "id": name,
            "scenario": topology.name,
            "verdict": "reproduced",
        }
        for topology in loaded
        for name, claim in topology.claims.items()
    ]
    decided = Verdicts.model_validate({"schema_version": 1, "claims": claims})
    selected = select(decided, {topology.name: topology for topology in loaded})
    assert selected is not None
    assert [one.state for one in selected.statements] == ["held"] * 4
    assert not any(one.unseen for one in selected.scenarios)


def test_what_another_shows_anyway_needs_no_decision(decided: Decided) -> None:
    assert said(decided({"2.2-fa": "inconclusive"}))["P(2.2) ⊆ P(2.1)"].state == "held"


def test_one_broken_is_broken_and_one_undecided_is_undecided(decided: Decided) -> None:
    broken = decided({"2.1-fa": "refuted", "2.3-works": "inconclusive"})
    assert "does not follow" in selection(broken).conclusion
    (broken.folder / "verdicts.json").write_text(json.dumps(verdicts(left_out=["2.3-works"])))
    assert "not decided" in selection(read_evidence(broken.folder)).conclusion


# The page, JUnit, GitHub


def test_the_page_of_a_matrix(decided: Decided) -> None:
    page = render_report(decided({"2.2-fa": "refuted"}))
    parser = Checked()
    parser.feed(page)
    assert not parser.open
    inside = {ref[1:] for ref in parser.refs if ref.startswith("#")}
    assert inside <= parser.ids and {"scenario-2.4", "2.5-perimeter"} <= inside
    for words in (
        "Contents",
        "Which scenarios need solving?",
        "<q>words about scenario-2.3</q>",
        "P(2.4) ⊆ P(2.1)",
        "∅",
        "refuted",
    ):
        assert words in page, words
    assert "testbed verify scenario-2.4 --claim 2.4-works" in page


def test_the_page_of_one_scenario_has_no_selection(tmp_path: Path) -> None:
    page = render_report(read_evidence(write_sample(tmp_path / "evidence")))
    assert 'id="grid"' in page and 'id="selection"' not in page


def test_one_suite_per_scenario(decided: Decided) -> None:
    found = decided({"2.2-fa": "refuted", "2.2-moves": "inconclusive"}).verdicts
    assert found is not None
    suites = {one.get("name"): one for one in ET.fromstring(junit(found).encode())}
    assert [*suites] == [f"scenario-2.{n}" for n in range(1, 6)]
    counts = [suites["scenario-2.2"].get(key) for key in ("tests", "failures", "errors", "time")]
    assert counts == ["5", "1", "1", "15.000"]
    assert suites["scenario-2.1"].get("failures") == "0"


def test_a_summary_for_github(decided: Decided) -> None:
    evidence = decided({"2.2-fa": "refuted"})
    assert evidence.verdicts is not None
    lines = github.summary(evidence.verdicts, rows(evidence)).splitlines()
    assert lines[0] == "### 15 of 16 claims reproduced"
    table = [line for line in lines if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert "| scenario-2.2 | mip-in-ipsec | foreign-agent | ! refuted | `2.2-fa` |" in table
    assert "| scenario-2.3 | – | any | ~ single-vendor | `2.3-box` |" in table
    assert lines[-1] == "- **`2.2-fa` refuted**: 2.2-fa: 100% \\| &lt;wrong>, said: no"


def test_annotations_for_github(decided: Decided) -> None:
    found = decided({"2.2-fa": "refuted", "2.4-works": "inconclusive"}).verdicts
    assert found is not None
    assert [*github.commands(found, {"2.2-fa": Source("a,b:c.yaml", 7, 3)})] == [
        "::error file=a%2Cb%3Ac.yaml,line=7,title=2.2-fa is refuted::2.2-fa: 100%25 | <wrong>,%0Asaid: no",
        "::error title=2.4-works is inconclusive::2.4-works: 100%25 | <wrong>,%0Asaid: no",
    ]


def tried_again(verdict: str) -> Verdicts:
    attempt = {"verdict": "refuted", "reason": "it leaks", "folder": "attempts/1"}
    claim = {"id": "x", "scenario": "s", "verdict": verdict, "reason": "", "attempts": [attempt]}
    finding = {"run": "main", "expectation": "e", "held": True, "observed": "o", "files": ["c/mn-hotel.pcap"]}
    claim |= {"evidence": [finding], "configuration": {"stack": "mip-only", "attachment": None}}
    return Verdicts.model_validate({"claims": [claim]})


def test_a_flaky_claim_is_a_warning() -> None:
    flaky = tried_again("reproduced")
    assert [*github.commands(flaky, {})] == ["::warning title=x is flaky::refuted at attempt 1: it leaks"]
    assert github.summary(flaky, []).endswith("- `x` flaky: refuted at attempt 1: it leaks")
    (case,) = ET.fromstring(junit(flaky).encode()).iter("testcase")
    (failure,) = case.iter("flakyFailure")
    assert (failure.get("message"), failure.text) == ("it leaks", "attempts/1")
    assert case.find("failure") is None
    refuted = tried_again("refuted")
    (case,) = ET.fromstring(junit(refuted).encode()).iter("testcase")
    assert case.find("failure") is not None and case.find("rerunFailure") is not None
    assert case.find("flakyFailure") is None
    assert [one.split()[0] for one in github.commands(refuted, {})] == ["::error"]


def test_a_test_case_names_its_captures() -> None:
    (case,) = ET.fromstring(junit(tried_again("refuted")).encode()).iter("testcase")
    properties = [(one.get("name"), one.get("value")) for one in case.iter("property")]
    assert ("stack", "mip-only") in properties and ("capture", "c/mn-hotel.pcap") in properties
    failure = case.find("failure")
    assert failure is not None and "main: e: held: o\n  captured in c/mn-hotel.pcap" in (failure.text or "")


def test_what_the_baseline_had_no_better_is_but_a_warning(decided: Decided) -> None:
    found = decided({"2.2-fa": "refuted", "2.4-works": "inconclusive"}).verdicts
    assert found is not None
    levels = [line.split()[0] for line in github.commands(found, {}, ["2.4-works"])]
    assert levels == ["::warning", "::error"]


# Header overhead


def test_the_probe_is_as_large_as_is_said() -> None:
    assert 20 + 8 + probe.HEADER.size + len(PROBE_MARKER) == INNER


@pytest.mark.parametrize(
    ("stack", "attachment", "headers", "added"),
    [
        ("mip-only", "foreign-agent", "", 0),
        ("mip-only", "co-located", "IP", 20),
        ("mip-only", "co-located", "IP | GRE", 24),
        ("mip-only", "co-located", "IP | Min-Enc", 12),
        ("mip-only", "co-located", "IP | MIP-UDP", 32),
        ("mip-only", "co-located", "IP | MIP-UDP | GRE", 36),
        ("mip-only", "co-located", "IP | MIP-UDP | Min-Enc", 24),
        ("ipsec-in-mip", "co-located", "IP | MIP-UDP | IP | ESP", 89),
        ("mip-in-ipsec", "co-located", "", 77),
        ("ipsec-in-mip", "foreign-agent", "", 57),
        ("mip-in-ipsec-in-mip", "foreign-agent", "", 77),
        ("mip-in-ipsec-in-mip", "co-located", "IP | IP | ESP", 97),
        ("mip-in-ipsec-in-mip", "co-located", "IP | MIP-UDP | IP | ESP", 109),
        ("ipsec-in-mip", "co-located", "", 77),
        ("ipsec-in-mip", "co-located", "IP | UDP | ESP", 85),
        ("mip-only", "co-located", "IP | UDP | WireGuard", 61),
    ],
)
def test_the_arithmetic(stack: str, attachment: str, headers: str, added: int) -> None:
    length, how = compute(stack, attachment, headers)
    assert length == INNER + added and how
    assert compute("mip-in-ipsec", "foreign-agent")[0] is None


@pytest.mark.parametrize("inner", range(60, 68))
def test_esp_is_padded_to_four_bytes(inner: int) -> None:
    length, _ = esp(inner)
    assert (length - 20 - 8 - 8 - 16) % 4 == 0 and 0 <= length - 54 - inner <= 3


@pytest.mark.parametrize(("inner", "padding"), [(95, 1), (96, 0), (97, 15)])
def test_wireguard_is_padded_to_sixteen_bytes(inner: int, padding: int) -> None:
    assert wireguard(inner)[0] == inner + 20 + 8 + 16 + padding + 16


def capture(file: Path, *packets: tuple[Any, bool]) -> None:
    """The mobile node's link: cooked packets with their direction."""
    frames = [
        (
            START + number * 0.005,
            bytes.fromhex("0800 0000 00000007 0001")
            + bytes((4 if outgoing else 0, 6))
            + bytes.fromhex(MAC["mn"].replace(":", ""))
            + bytes(2)
            + bytes(packet),
        )
        for number, (packet, outgoing) in enumerate(packets)
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pcap(frames, LINUX_SLL2))


OUTER = {"src": "198.51.100.134", "dst": "203.0.113.2"}
PROBE = (
    IP(src="10.0.1.100", dst="10.0.4.10") / UDP(sport=5, dport=5005) / Raw(b"tbPR" + bytes(16) + PROBE_MARKER)
)


def in_esp(size: int) -> Any:
    return IP(**OUTER) / ESP(spi=1, seq=1, data=bytes(size - 28))


def in_wireguard(kind: int, message: Any) -> Any:
    return IP(**OUTER) / UDP(sport=51820, dport=1024) / Wireguard(message_type=kind) / message


def test_the_probe_is_found_in_captures(tmp_path: Path) -> None:
    capture(
        tmp_path / "a.pcap",
        *[(in_esp(172), True)] * 9,
        *[(in_esp(140), True)] * 4,  # a registration now and then
        *[(IP(**OUTER) / PROBE, False)] * 5,
        *[(PROBE, True)] * 2,
        *[(IP(**OUTER) / UDP(sport=434, dport=434) / (b"\4\4\0\0" + bytes(PROBE)), True)] * 3,
        *[(IP(**OUTER) / UDP(sport=434, dport=434), True)] * 40,  # something else
        *[(in_wireguard(4, WireguardTransport(encrypted_encapsulated_packet=bytes(112))), False)] * 6,
        *[(in_wireguard(1, WireguardInitiation()), False)] * 3,  # its handshake
    )
    assert probes(read_capture(tmp_path / "a.pcap")) == {
        ("from", "IP | ESP"): {172: 9, 140: 4},
        ("to", "IP"): {115: 5},
        ("from", ""): {95: 2},
        ("from", "IP | MIP-UDP"): {95 + 32: 3},
        ("to", "IP | UDP | WireGuard"): {156: 6},
    }


def renegotiating(folder: Path, *packets: tuple[Any, bool]) -> list[Overhead]:
    """What is measured where these packets were captured in a run with a probe."""
    run = write_sample(folder) / "claims" / "2.1-colocated-renegotiates" / "main"
    with (run / "steps.jsonl").open("a") as steps:
        steps.write('{"step": "probe", "text": "probe start", "began": 1, "ended": 2, "result": ""}\n')
    capture(run / "captures" / "mn-airport.pcap", *packets)
    return [one for one in overheads(read_evidence(folder)) if "UDP" not in one.headers]


def test_nothing_is_measured_where_the_probe_cannot_be_told(tmp_path: Path) -> None:
    assert not renegotiating(tmp_path / "a", *[(in_esp(172), True)] * (ENOUGH - 1))
    half = [(in_esp(172), True), (in_esp(180), True)] * ENOUGH  # a session beside it
    assert not renegotiating(tmp_path / "b", *half)
    assert renegotiating(tmp_path / "c", *half, (in_esp(172), True))


@pytest.mark.parametrize(
    ("sets", "stack"),
    [
        ("option.stack=ipsec-in-mip", "ipsec-in-mip"),
        ("stack=ipsec-in-mip", "ipsec-in-mip"),  # as `--set` takes it, too
        ("stack=ipsec-in-mip option.stack=mip-in-ipsec", "mip-in-ipsec"),  # the claim's own comes after it
        ("node.mn.stack=x", "mip-in-ipsec"),
    ],
)
def test_of_two_stacks_on_a_network_the_lab_had_the_one_chosen_last(
    tmp_path: Path, sets: str, stack: str
) -> None:
    renegotiating(tmp_path / "a", *[(in_esp(172), True)] * ENOUGH)
    folder = shutil.copytree(tmp_path / "a", tmp_path / "b")
    written = plain_yaml.load((folder / "topology.yaml").read_text())
    written["configurations"].append(
        {"stack": "ipsec-in-mip", "attachment": "co-located", "networks": ["airport"]}
    )
    (folder / "topology.yaml").write_text(plain_yaml.dump(written))
    verdicts = json.loads((folder / "verdicts.json").read_text())
    verdicts["backends"]["verify-a"]["sets"] = sets
    (folder / "verdicts.json").write_text(json.dumps(verdicts))
    found = {one.stack for one in overheads(read_evidence(folder)) if one.where == "2.1: airport"}
    assert found == {stack}


def test_what_passes_in_clear_is_not_the_overhead_of_ipsec(tmp_path: Path) -> None:
    assert not renegotiating(tmp_path / "a", *[(IP(**OUTER) / PROBE, False)] * 40)


@pytest.mark.parametrize(("size", "agrees"), [(172, True), (180, False)])
def test_measured_and_computed_are_compared(tmp_path: Path, size: int, agrees: bool) -> None:
    (one,) = renegotiating(tmp_path / "e", *[(in_esp(size), True), (in_esp(size), False)] * 10)
    assert (one.stack, one.attachment, one.ways) == ("mip-in-ipsec", "co-located", "both")
    assert (one.length, one.agrees, one.where) == (size, agrees, "2.1: airport")
    evidence = read_evidence(tmp_path / "e")
    assert render_report(evidence).count("differ</span>") == sum(not x.agrees for x in overheads(evidence))
