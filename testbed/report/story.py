"""The explanation of a claim as text for a terminal, in the manner of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any, Final

from testbed.report.way import DATA, LEGEND, REQUEST

_SIGNS: Final = {True: "✓", False: "✗", None: "?"}
_RUNS: Final = {
    "held": "All of this was seen",
    "failed": "Not all of this was seen",
    "undecided": "This is undecided",
}
_WAYS: Final = {DATA: "The way of data", REQUEST: "The way of registration requests"}
_VERDICTS: Final = (
    ("reproduced", "all that must be seen was seen, in the run and in the control."),
    (
        "refuted",
        "the control came out, so the lab works and the check is able to fail; and in the run something "
        "that must be seen was not.",
    ),
    (
        "inconclusive",
        "nothing is decided: the control did not come out; or a step could not be carried out; or an "
        "observer could not look, such as a capture that lost packets; or the machine was so slow that this "
        "alone may be why something was not seen.",
    ),
)
_TAPS: Final = (
    "NODE/NETWORK names a capture on that node's interface to that network: mn/hotel sees what mn sends and "
    "receives in the hotel."
)
_BARE: Final = " A § without a document is of the problem statement, published as RFC 4093."
_CONTROL: Final = (
    "The nearby run in which the opposite must come out. It shows that the lab works and that the check is "
    "able to fail."
)
_CAUSE: Final = (
    "So the cause is what is different between run and control. Everything else that must be seen shows that "
    "each of them did what it was to do."
)


def story(told: Mapping[str, Any], width: int) -> str:
    """The text of what `explain` found out, in lines of a width."""
    return "\n".join(_Text(told, width).lines()) + "\n"


class _Text:
    """Writes one explanation; what a word, an option or a filter means stands where it is met first."""

    def __init__(self, told: Mapping[str, Any], width: int) -> None:
        self._told = told
        self._width = width
        self._met: set[str] = set()
        networks = {one["network"] for place in told["where"] for one in place["networks"]}
        self._taps = re.compile(rf"[a-z0-9-]/({'|'.join(sorted(networks)) or '$'})\b")

    def lines(self) -> Iterator[str]:
        told = self._told
        yield f"# {told['claim']}"
        yield ""
        yield from self._text(f"{told['says']}.")
        yield ""
        bare = _BARE if told["source"].startswith("§") else ""
        yield from self._text(f"Source: {told['source']}.{bare}")
        yield from self._text(f"Scenario: {told['topology']}, {told['title']}.")
        if verdict := told.get("verdict"):
            yield ""
            reason = f": {verdict['reason']}" if verdict["reason"] else ""
            yield from self._text(f"This evidence says: {verdict['verdict']}{reason}.")
        yield from self._configuration()
        yield from self._places()
        for kind in ("run", "control"):
            for number, run in enumerate(told[kind], 1):
                several = len(told[kind])
                title = f"{kind.title()} {number} of {several}" if several > 1 else f"The {kind}"
                yield from self._head(title)
                yield from self._differences(number) if kind == "control" else ()
                yield from self._run(run)
        yield from self._decides()

    def _configuration(self) -> Iterator[str]:
        told, one = self._told, self._told["configuration"]
        if not one:
            return
        yield from self._head("The configuration it speaks of")
        yield from self._item("-", f"Stack {one['stack']}: {one['stack_text']}.")
        yield from self._item("-", f"Care-of address: {one['attachment_text']}.")
        if one["shows_text"]:
            named = told["problem"] or told["drawback"]
            kind = "problem" if told["problem"] else "drawback"
            name = f" Reports call the {kind} {named}." if named else ""
            yield from self._item("-", one["shows_text"] + name)

    def _places(self) -> Iterator[str]:
        for place in self._told["where"]:
            yield from self._head(f"Who is where in {place['topology']} ({place['title']})")
            rows = [(one["node"], one["text"]) for one in place["nodes"]]
            rows += [(one["network"], f"network {one['text']}") for one in place["networks"]]
            pad = max((len(name) for name, _ in rows), default=0)
            for name, text in rows:
                yield from self._item(f"- {name:{pad}} ", text)

    def _differences(self, number: int) -> Iterator[str]:
        if self._first("control"):
            yield from self._text(_CONTROL)
            yield ""
        if (said := self._told["remark"]) and self._first("remark"):
            yield from self._text(f"The author of the claim remarks: {said}.")
            yield ""
        if changed := self._told["differences"][number - 1]:
            run = f"run {self._told['nearest'][number - 1]}" if len(self._told["run"]) > 1 else "the run"
            yield f"What is different from {run}:"
            for text in changed:
                yield from self._item("-", text)
            yield ""

    def _run(self, run: Mapping[str, Any]) -> Iterator[str]:
        options = [f"{name} {value}" for name, value in run["options"].items()] + run["sets"]
        chosen = f" with {', '.join(options)}" if options else ""
        yield from self._text(f"Lab: {run['topology']}{chosen}. The mobile node begins registered nowhere.")
        for name, text in run["meanings"].items():
            if text and self._first(f"option {name}"):
                yield from self._text(f"{name}: {text}.", "    ")
        for of, title in _WAYS.items():
            yield from self._ways(title, [way for way in run["ways"] if way["of"] == of])
        yield ""
        yield "What is done:"
        for number, step in enumerate(run["steps"], 1):
            yield from self._part(f"{number}.", step)
        yield ""
        yield "What must be seen then, all of it:"
        for one in run["expect"]:
            yield from self._part("-", one)
        if "verdict" in run:
            yield ""
            error = f": {run['error']}" if run["error"] else ""
            yield from self._text(f"{_RUNS[run['verdict']]}{error}.")
            yield f"Captures in {self._told['evidence']}:"
            yield from (f"    {file}" for file in run["captures"])

    def _ways(self, title: str, ways: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        if not ways:
            return
        yield from ("", f"{title}, by the topology:", "")
        for way in ways:
            yield from self._way(way["parts"])
        for reason in dict.fromkeys(way["ends"] for way in ways if way["ends"]):
            yield from self._text(f"✗ {reason}.", "      ")
        for note in dict.fromkeys(way["note"] for way in ways if way["note"]):
            yield from self._text(f"{note}.", "      ")
        if self._first("legend"):
            yield ""
            yield from self._text(LEGEND)

    def _way(self, parts: Sequence[str]) -> Iterator[str]:
        line = f"    {parts[0]}"
        for part in parts[1:]:
            if len(line) + 1 + len(part) > self._width:
                yield line
                line = f"        {part}"
            else:
                line += f" {part}"
        yield line

    def _part(self, mark: str, one: Mapping[str, Any]) -> Iterator[str]:
        yield from self._item(mark, one["text"] + (f" – {one['remark']}" if one["remark"] else ""))
        if found := one.get("found"):
            excuse = f" ({found['excuse']})" if found["excuse"] else ""
            yield from self._item(f"  {_SIGNS[found['held']]}", f"{found['observed']}{excuse}")
        meaning = self._told["words"].get(one["word"])
        if meaning and self._first(one["word"]):
            yield from self._text(f"({meaning.rstrip('.')})", "      ")
        for each in self._told["filters"]:
            if f"‘{each['name']}’" in one["text"] and self._first(f"filter {each['name']}"):
                said = f", {each['remark']}" if each["remark"] else ""
                yield from self._text(
                    f"(‘{each['name']}’ is the pcap filter: {each['filter']}{said})", "      "
                )
        if self._taps.search(one["text"]) and self._first("tap"):
            yield from self._text(f"({_TAPS.rstrip('.')})", "      ")

    def _decides(self) -> Iterator[str]:
        yield from self._head("Why this decides it")
        if pairs := self._told["opposites"]:
            yield "Run and control must come out opposite:"
            for pair in pairs:
                yield ""
                yield from self._item("- run:    ", pair["run"])
                yield from self._item("  control:", pair["control"])
            yield ""
            yield from self._text(_CAUSE)
            yield ""
        for verdict, text in _VERDICTS:
            yield from self._item(f"- {verdict}:", text)
        for condition in self._told["conditions"]:
            yield from self._item("  -", f"inconclusive as well, where {condition}")

    # Lines.

    def _first(self, what: str) -> bool:
        """Whether this is met for the first time."""
        new = what not in self._met
        self._met.add(what)
        return new

    def _head(self, title: str) -> Iterator[str]:
        yield from ("", *self._text(f"## {title}"), "")

    def _item(self, mark: str, text: str) -> Iterator[str]:
        return self._text(text, f"{mark} ", " " * (len(mark) + 1 if len(mark) < 24 else 4))

    def _text(self, text: str, first: str = "", later: str | None = None) -> Iterator[str]:
        later = " " * len(first) if later is None else later
        yield from wrap(
            text, self._width, initial_indent=first, subsequent_indent=later,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
