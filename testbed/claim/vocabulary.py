"""The vocabulary of claims as text, read from the classes that define it and so never out of date."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from testbed.claim.expect import Expectation
from testbed.claim.names import Short
from testbed.claim.steps import Step
from testbed.document.part import Part

WIDTH = 100
_INTRODUCTION = """\
A claim in a topology file:

    claims:
      ID:
        says: the sentence in one line      source: section and figure
        configuration: {stack: …, attachment: …}
        shows: works | fails | costs        what it says of that configuration, once reproduced
        problem: NAME                       of what fails or costs; or drawback: NAME, which is no problem
        run:                                tries what the sentence says
          options: {stack: mip-in-ipsec}    the lab it needs; also topology: NAME, sets: [PATH=VALUE]
          steps: [STEP, …]                  one after the other
          expect: [EXPECTATION, …]          all of it must be seen
        control: …                          like run: the nearby run in which the opposite must come out
                                            either may be a list of runs: all of them must hold

    trials: {NAME: {steps: …, expect: …}}   runs that claims share: `control: NAME` takes one as it is,
                                            `run: {trial: NAME, expect: [MORE], …}` with keys of its own
    filters: {request: udp dst port 434}    names for pcap filters: `filter: $request and src host ha`

What is missing, or was repeated, refutes nothing where the machine was so busy during the run that this alone
may be why: the claim is inconclusive. What was seen and must not be there refutes on any machine.

A step is one of the words below with its keys: `- move: {to: [hotel, airport], times: 2}`. Where a key is
marked *, its value may stand for the whole: `- move: airport`. Times have units: 40ms, 3s.
"""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a word."""

    name: str
    text: str
    required: bool
    short: bool  # its value alone may stand for the word's whole mapping
    values: tuple[str, ...] = ()  # the only ones it may have


@dataclass(frozen=True, slots=True)
class Word:
    """One step or expectation."""

    word: str
    kind: str  # step or expectation
    text: str
    keys: tuple[Key, ...]

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        keys = [
            {
                "name": key.name,
                "text": key.text,
                "required": key.required,
                "short": key.short,
                "values": list(key.values),
            }
            for key in self.keys
        ]
        return {"word": self.word, "kind": self.kind, "text": self.text, "keys": keys}


def words() -> Iterator[Word]:
    """Every step, then every expectation, in the order of their classes' fields."""
    for kind, model in (("step", Step), ("expectation", Expectation)):
        for name, field in model.model_fields.items():
            yield _word(field.alias or name, kind, field)


def _word(word: str, kind: str, field: FieldInfo) -> Word:
    part = next((one for one in get_args(field.annotation) if _is_part(one)), None)
    if part is None:
        return Word(word, kind, f"{field.description}.", ())
    short = part.SHORT if issubclass(part, Short) else ""
    keys = tuple(
        Key(
            one.alias or name,
            one.description or "",
            one.is_required(),
            name == short,
            tuple(_values(one.annotation)),
        )
        for name, one in part.model_fields.items()
    )
    return Word(word, kind, inspect.cleandoc(part.__doc__ or ""), keys)


def _values(kind: Any) -> Iterator[str]:
    """The words that an annotation lists, `Literal["up", "down"] | None` as well."""
    if get_origin(kind) is Literal:
        yield from (value for value in get_args(kind) if isinstance(value, str))
    else:
        for one in get_args(kind):
            yield from _values(one)


def _is_part(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Part)


def render(chosen: Iterable[Word]) -> str:
    """The words for people; the introduction only where there are several."""
    listed = list(chosen)
    blocks = [_INTRODUCTION] if len(listed) > 1 else []
    for kind, title in (("step", "STEPS"), ("expectation", "EXPECTATIONS")):
        of_kind = [one for one in listed if one.kind == kind]
        if of_kind and len(listed) > 1:
            blocks.append(f"{title}\n")
        blocks += [_block(one) for one in of_kind]
    return "\n".join(blocks).rstrip()


def _block(word: Word) -> str:
    lines = [word.word]
    for paragraph in word.text.split("\n\n"):
        lines += textwrap.wrap(
            " ".join(paragraph.split()), WIDTH, initial_indent="    ", subsequent_indent="    "
        )
    for key in word.keys:
        name = f"      {key.name}{'*' if key.short else ''}{'' if key.required else ' (optional)'}"
        text = f"{key.text}: {' | '.join(key.values)}" if key.values else key.text
        lines += textwrap.wrap(f"{name}: {text}", WIDTH, initial_indent="", subsequent_indent=" " * 10)
    return "\n".join(lines) + "\n"
