"""The grid for GitHub: Markdown for the summary of a job, and annotations for what is not reproduced."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from testbed.errors import Source
from testbed.evidence.verdicts import Verdicts
from testbed.report.grid import SIGNS, Row


def summary(verdicts: Verdicts, rows: Iterable[Row]) -> str:
    """A heading with the count, the grid as a table, and why claims are not reproduced."""
    wrong = [claim for claim in verdicts.claims if claim.verdict != "reproduced"]
    good = len(verdicts.claims) - len(wrong)
    lines = [
        f"### {good} of {len(verdicts.claims)} claims reproduced",
        "",
        "| Scenario | Stack | Attachment | Result | Claims |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        results = "<br>".join(_cell(one.text) for one in row.entries) or "no claim"
        claims = "<br>".join(", ".join(f"`{claim}`" for claim in one.claims) for one in row.entries)
        cells = (row.scenario, row.stack or "–", row.attachment or "any", results, claims)
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", " · ".join(f"{sign} {state}" for state, sign in SIGNS.items()), ""]
    lines += [f"- **`{claim.id}` {claim.verdict}**: {_cell(claim.reason or claim.says)}" for claim in wrong]
    for claim in verdicts.claims:
        for number, attempt in enumerate(claim.attempts, 1):
            text = f"{attempt.verdict} at attempt {number}: {attempt.reason}"
            lines.append(f"- `{claim.id}` {'flaky' if claim.flaky else 'tried again'}: {_cell(text)}")
    return "\n".join(lines).rstrip()


def commands(
    verdicts: Verdicts, sources: Mapping[str, Source], worse: Collection[str] | None = None
) -> Iterator[str]:
    """A workflow command for each claim that is not reproduced or flaky, at its place in the topology file.

    `worse` names the claims that were better in a baseline: then the others are but warnings.
    """
    for claim in verdicts.claims:
        if claim.verdict == "reproduced" and not claim.flaky:
            continue
        source = sources.get(claim.id)
        place = {"file": source.file, "line": source.line} if source else {}
        word: str = claim.verdict
        reason = claim.reason or claim.says
        if claim.flaky:
            word, reason = "flaky", f"{claim.attempts[0].verdict} at attempt 1: {claim.attempts[0].reason}"
        level = "warning" if claim.flaky or (worse is not None and claim.id not in worse) else "error"
        properties = {**place, "title": f"{claim.id} is {word}"}
        text = ",".join(f"{key}={_property(str(value))}" for key, value in properties.items() if value)
        yield f"::{level} {text}::{_data(reason)}"


def _cell(text: str) -> str:
    """Text in a cell of a table: neither a column's end nor markup."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return " ".join(text.split())


def _data(text: str) -> str:
    """The escapes of workflow commands."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
