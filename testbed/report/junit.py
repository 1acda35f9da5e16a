"""Verdicts as JUnit XML, for whatever shows the results of tests."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence

from testbed.evidence.verdicts import SIDES, Claim, Verdicts


def junit(verdicts: Verdicts) -> str:
    """One suite per scenario, one test case per claim.

    Refuted is a failure, inconclusive an error, as neither is a success. Earlier attempts at a claim that is
    reproduced are `flakyFailure`, else `rerunFailure`, as Maven's Surefire has them. The properties of a test
    case are what its runs depended on, and the captures that its findings were decided from.
    """
    suites = ET.Element("testsuites")
    for scenario, claims in verdicts.by_scenario.items():
        _suite(suites, scenario, claims)
    ET.indent(suites)
    return f"<?xml version='1.0' encoding='utf-8'?>\n{ET.tostring(suites, encoding='unicode')}\n"


def _suite(suites: ET.Element, scenario: str, claims: Sequence[Claim]) -> None:
    counts = [claim.verdict for claim in claims]
    attributes = {
        "name": scenario,
        "tests": str(len(counts)),
        "failures": str(counts.count("refuted")),
        "errors": str(counts.count("inconclusive")),
        "skipped": "0",
        "time": f"{sum(map(_seconds, claims)):.3f}",
    }
    suite = ET.SubElement(suites, "testsuite", attributes)
    for claim in claims:
        case = ET.SubElement(
            suite,
            "testcase",
            {"classname": scenario, "name": claim.id, "time": f"{_seconds(claim):.3f}"},
        )
        properties = ET.SubElement(case, "properties")
        for name, value in _properties(claim):
            ET.SubElement(properties, "property", {"name": name, "value": _plain(value)})
        evidence = _evidence(claim)
        if claim.verdict != "reproduced":
            kind = "failure" if claim.verdict == "refuted" else "error"
            message = _plain(claim.reason or claim.verdict)
            ET.SubElement(case, kind, {"type": claim.verdict, "message": message}).text = evidence
        for attempt in claim.attempts:
            kind = "flakyFailure" if claim.flaky else "rerunFailure"
            message = _plain(attempt.reason or attempt.verdict)
            ET.SubElement(case, kind, {"type": attempt.verdict, "message": message}).text = attempt.folder
        ET.SubElement(case, "system-out").text = evidence


def _seconds(claim: Claim) -> float:
    return sum(facts.seconds for side in SIDES if (facts := claim.facts(side)))


def _properties(claim: Claim) -> Iterator[tuple[str, str]]:
    yield "source", claim.source
    for name, value in (claim.configuration or {}).items():
        if value:
            yield name, value
    for side in SIDES:
        if (facts := claim.facts(side)) and facts.lab:
            yield f"{side}.lab", facts.lab
    for file in dict.fromkeys(file for finding in claim.evidence for file in finding.files):
        yield "capture", file


def _evidence(claim: Claim) -> str:
    lines = [f"{claim.says} ({claim.source})"]
    for finding in claim.evidence:
        word = {True: "held", False: "did not hold", None: "undecided"}[finding.held]
        lines.append(f"{finding.run}: {finding.expectation}: {word}: {finding.observed}")
        lines += [f"  captured in {file}" for file in finding.files]
    return _plain("\n".join(lines))


def _plain(text: str) -> str:
    """Without the control characters that XML cannot carry."""
    return "".join(c if c in "\n\t" or (c >= " " and c not in "\ufffe\uffff") else "�" for c in text)
