"""Why a claim's run and control decide it: what differs between them, and what must come out opposite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any, Final

from testbed.claim.claims import Experiment
from testbed.claim.expect import Expectation
from testbed.claim.seen import Count
from testbed.claim.steps import Step
from testbed.claim.steps.expect import Expect
from testbed.topology.loaded import LoadedTopology

OPPOSITES: Final = ({"reachable", "unreachable"}, {"accepted", "refused"})
"""Words that deny each other of the same thing; another word is denied by other values of its keys."""
_SAME: Final = ("filter", "contains", "exchange", "name", "source", "set")
"""Keys in which two expectations on different nodes have to agree to be about the same thing."""
_VALUES: Final = ("present", "state", "over")
"""Keys whose value is what is expected, beside numbers."""


def opposites(
    run: Sequence[Experiment], control: Sequence[Experiment]
) -> Iterator[tuple[Expectation, Expectation]]:
    """Pairs of what the run expects and what the control expects, of which the second denies the first."""
    theirs = [one for each in control for _, one in each.expectations()]
    seen: set[tuple[str, str]] = set()
    for one in (one for each in run for _, one in each.expectations()):
        ranked = [(alike, other) for other in theirs if (alike := _denied(one, other)) is not None]
        if ranked:
            best = max(ranked, key=lambda pair: pair[0])[1]
            pair = (one.model_dump_json(), best.model_dump_json())
            if pair not in seen:
                seen.add(pair)
                yield one, best


def _denied(one: Expectation, other: Expectation) -> int | None:
    """In how many keys the two agree, where the second denies the first; None where it does not."""
    a, b = one.part, other.part
    if one.word != other.word:
        alike = {one.word, other.word} in OPPOSITES
        same = (
            [key for key in type(a).model_fields if getattr(a, key) == getattr(b, key, None)] if alike else []
        )
        return len(same) if same else None
    keys = [key for key in type(a).model_fields if key not in _VALUES]
    if any(getattr(a, key, None) != getattr(b, key, None) for key in _SAME):
        return None
    if not any(_deny(x, y) for x, y in _outcomes(a, b)):
        return None
    alike_keys = sum(bool(getattr(a, key) == getattr(b, key)) for key in keys)
    return alike_keys + len(_places(a) & _places(b))


def _places(part: Any) -> set[str]:
    return {place for tap in getattr(part, "at", ()) for place in tap.split("/")}


def _outcomes(a: Any, b: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(a, Count):
        yield a, b
    for key in type(a).model_fields:
        x, y = getattr(a, key), getattr(b, key)
        if key in _VALUES or (isinstance(x, Count) and isinstance(y, Count)):
            yield x, y
    if hasattr(a, "not_through"):
        yield set(a.through) & set(b.not_through), set()
        yield set(a.not_through) & set(b.through), set()


def _deny(x: Any, y: Any) -> bool:
    if isinstance(x, Count):
        return bool(x.lowest > y.highest or y.lowest > x.highest)
    return bool(x != y)


def differences(
    run: Experiment, run_lab: LoadedTopology, control: Experiment, control_lab: LoadedTopology
) -> list[str]:
    """What a control does otherwise than a run, in words."""
    found = []
    if run_lab.name != control_lab.name:
        found.append(f"it takes place in {control_lab.name} ({control_lab.topology.title})")
    options = [
        f"{name} is {value}" + (f", not {run_lab.options[name]}" if name in run_lab.options else "")
        for name, value in control_lab.options.items()
        if run_lab.options.get(name) != value and (name in run_lab.options or name in control.options)
    ]
    found += [f"the option {text}" for text in options]
    found += [f"the setting {text} is left out" for text in run.sets if text not in control.sets]
    found += [f"with the setting {text}" for text in control.sets if text not in run.sets]
    return [*found, *_other_steps(run, control)]


def _other_steps(run: Experiment, control: Experiment) -> Iterator[str]:
    """The steps that differ. In the place of a step only a step with the same word can stand."""
    before, after = (
        [step for step in one.steps if not isinstance(step.part, Expect)] for one in (run, control)
    )
    for same, i, j, m, n in _aligned([one.phrase() for one in before], [one.phrase() for one in after]):
        if same:
            continue
        gone, come = before[i:j], after[m:n]
        without: list[Step] = []
        also: list[Step] = []
        for alike, a, b, c, d in _aligned([one.word for one in gone], [one.word for one in come]):
            if alike:
                for old, new in zip(gone[a:b], come[c:d], strict=True):
                    yield f"{_quoted([new])} in the place of {_quoted([old])}"
            else:
                without += gone[a:b]
                also += come[c:d]
        if without:
            yield f"without {_quoted(without)}"
        if also:
            yield f"also {_quoted(also)}"


def _aligned(before: list[str], after: list[str]) -> Iterator[tuple[bool, int, int, int, int]]:
    """Whether parts of two lists are the same, and where each begins and ends in them."""
    for kind, *place in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        a, b, c, d = place
        yield kind == "equal", a, b, c, d


def _quoted(steps: Sequence[Step]) -> str:
    return " and ".join(f"“{one.phrase()}”" for one in steps)
