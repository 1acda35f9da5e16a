"""Verdicts as JUnit XML, for whatever shows the results of tests."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence

from testbed.evidence.verdicts import SIDES, Claim, Verdicts


def junit(verdicts: Verdicts) -> str:
    """One suite per scenario, one test case per claim.

    Refuted is a failure, inconclusive an error, as neither is a success.
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
        evidence = _evidence(claim)
        if claim.verdict != "reproduced":
            kind = "failure" if claim.verdict == "refuted" else "error"
            message = _plain(claim.reason or claim.verdict)
            ET.SubElement(case, kind, {"type": claim.verdict, "message": message}).text = evidence
        ET.SubElement(case, "system-out").text = evidence


def _seconds(claim: Claim) -> float:
    return sum(facts.seconds for side in SIDES if (facts := claim.facts(side)))


def _evidence(claim: Claim) -> str:
    lines = [f"{claim.says} ({claim.source})"]
    for finding in claim.evidence:
        word = {True: "held", False: "did not hold", None: "undecided"}[finding.held]
        lines.append(f"{finding.run}: {finding.expectation}: {word}: {finding.observed}")
    return _plain("\n".join(lines))


def _plain(text: str) -> str:
    """Without the control characters that XML cannot carry."""
    return "".join(c if c in "\n\t" or (c >= " " and c not in "\ufffe\uffff") else "�" for c in text)
