"""What of a node is not as it was rendered: lines of a file, or of its routes and rules."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from testbed.errors import StepError
from testbed.lab.secrets import lab_secrets
from testbed.lesson.bench import Bench
from testbed.lesson.model import Changed
from testbed.render import render_lab

_CONFIGURED: Final = "/run/testbed/configured"
"""Where init keeps what it has configured (`testbed-drift save`)."""
_SHOW: Final = {
    "routes": "echo 'route show table all' | ip -4 -o -batch -",
    "rules": "echo 'rule show' | ip -4 -o -batch -",
    "nftables": "nft --stateless --terse list ruleset",
}
_RULE, _LINK = re.compile(r"\d+:\t"), re.compile(r"\d+: ")


def is_changed(bench: Bench, changed: Changed) -> bool:
    """Whether such a line was added, or is gone. Blanks and comments do not count. Raises `StepError`."""
    before, now = _of_file(bench, changed) if changed.file else _of_rules(bench, changed)
    return _matches(changed.line, now, before) and _matches(changed.gone, before, now)


def _matches(expression: str | None, among: list[str], others: list[str]) -> bool:
    """Whether a line matches that is not among others; without an expression, yes."""
    return expression is None or any(re.search(expression, line) for line in among if line not in others)


def _of_file(bench: Bench, changed: Changed) -> tuple[list[str], list[str]]:
    """The lines of a file, as it was rendered for this lab and as it is."""
    access, topology = bench.access, bench.facts
    secrets = lab_secrets(access.engine, bench.actual.containers)
    rendered = render_lab(topology, lab=access.name, secrets=secrets, templates=topology.templates)
    file = str(changed.file)
    done = access.execute(changed.node, ["cat", file])
    if done.code:
        raise StepError(f"{changed.node}: {done.complaint}")
    written = rendered.nodes[changed.node].files[file].content
    return _lines(written.splitlines()), _lines(done.text.splitlines())


def _of_rules(bench: Bench, changed: Changed) -> tuple[list[str], list[str]]:
    """Routes, rules or nftables, as init has configured them and as they are."""
    what = str(changed.rules)
    script = f"cat {_CONFIGURED}; echo =====; {_SHOW[what]}"
    before, _, now = bench.access.shell(changed.node, script).text.partition("\n=====\n")
    links, _, nftables = before.partition("\nnftables\n")
    rows = nftables.splitlines()
    if what != "nftables":
        rows = [one for one in links.splitlines() if bool(_RULE.match(one)) == (what == "rules")]
        rows = [one for one in rows if not _LINK.match(one)]
    return _lines(rows), _lines(now.splitlines())


def _lines(text: Iterable[str]) -> list[str]:
    """Without blanks around and between words, empty lines, and comments."""
    stripped = (" ".join(line.split()) for line in text)
    return [line for line in stripped if line and not line.startswith(("#", ";", "//"))]
