"""What saves writing in a topology file: `repeat`, `trials` and `filters` are written out first.

After `expand` a document has none of these keys any more; what comes from them keeps the place where it was
written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from pydantic import Field

from testbed.claim.claims import Trial
from testbed.document.marks import Marks, Path
from testbed.document.part import Part
from testbed.document.read import describe, dotted, place, validate_model
from testbed.document.tree import append, graft, merge
from testbed.document.values import Label, Name
from testbed.errors import TestbedError, TopologyError, did_you_mean, raise_errors
from testbed.evidence.verdicts import KINDS
from testbed.packet.filters import FilterError, filter_hosts
from testbed.topology.model import Topology
from testbed.topology.overrides import Choice

MOST = 250
"""How often a block may be repeated: more than any lab has room for, and a third octet holds the number."""

MOST_SHORTHANDS = 1000
"""How many filters or trials a topology may name."""

LONGEST_FILTER = 4096
"""Characters of a pcap filter with every name in it written out."""

DEEPEST_FILTER = 16
"""How deep filters may name each other."""

_NUMBER = re.compile(r"\$n(?![a-z])")
_Filters = Mapping[str, str]


class Block(Part):
    """Networks and nodes that are there several times; `$n` in keys and values is the number, from 1."""

    networks: dict[str, Any] = Field(default_factory=dict, description="Networks, with $n in their names")
    nodes: dict[str, Any] = Field(
        default_factory=dict,
        description="Nodes with $n in their names, and additions to other nodes; with `like: NODE` a node "
        "has all of another that it does not write itself",
    )


class Shorthand(Part):
    """The keys of a topology file that save writing: gone once they are written out."""

    include: list[str] = Field(
        default_factory=list,
        description="Files to merge; this file overrides them, and paths are relative to it",
    )
    filters: dict[Label, str] = Field(
        default_factory=dict,
        max_length=MOST_SHORTHANDS,
        description="Names for pcap filters: $NAME in a `filter`",
    )
    trials: dict[Label, Trial] = Field(
        default_factory=dict,
        max_length=MOST_SHORTHANDS,
        description="Runs that claims share: `run: NAME`, or `run: {trial: NAME, …}`",
    )
    repeat: dict[Name, Block] = Field(
        default_factory=dict,
        description="Option → a block that is written out once for each number from 1 to its value",
    )


class TopologyFile(Shorthand, Topology):
    """A topology as it is written."""


def expand(data: dict[str, Any], marks: Marks, chosen: Mapping[str, Choice]) -> dict[str, str]:
    """Write out every shorthand of a document in place; `chosen` are the options that the user chose.

    Returns the filters by name, written out. Raises `TopologyError`, or an `ErrorGroup` of all errors.
    """
    short = validate_model(
        Shorthand, {key: data[key] for key in Shorthand.model_fields if key in data}, marks
    )
    errors: list[TestbedError] = []
    for option in short.repeat:
        _check_block(data["repeat"][option], ("repeat", option), marks, errors)
        _repeat(data, marks, option, chosen.get(option), errors)
    for name in sorted(short.filters, key=lambda one: "$" in short.filters[one]):
        try:
            filter_hosts(_filter(f"${name}", short.filters))
        except FilterError as error:
            if "$" not in short.filters[name] or not errors:  # else one that it contains is wrong
                message = f"{dotted(('filters', name))}: {error.message}"
                errors.append(TopologyError(message, hint=error.hint, source=marks.value(("filters", name))))
        except _Bad as error:
            if error.owner == name:  # else it is reported where it is written
                errors.append(error.at(("filters", name), marks))
    if not errors:
        for key in ("trials", "claims"):
            _use_filters(data.get(key), (key,), short.filters, marks, errors)
        _use_trials(data, marks, errors)
    raise_errors(sorted(errors, key=place))
    for key in Shorthand.model_fields:
        data.pop(key, None)
    return {name: _filter(f"${name}", short.filters) for name in short.filters}


# Repeat


def _repeat(
    data: dict[str, Any], marks: Marks, name: str, choice: Choice | None, errors: list[TestbedError]
) -> None:
    options = data.get("options")
    known = options if isinstance(options, dict) else {}
    option = known.get(name)
    if name not in known:
        source = marks.key(("repeat", name))
        hint = did_you_mean(name, known) or "add it to options"
        errors.append(TopologyError(f"repeat.{name}: unknown option {name}", hint=hint, source=source))
        return
    if not isinstance(option, dict) or "default" not in option:
        return  # its shape is reported when the model is validated
    choices = option.get("choices")
    number, source = option["default"], marks.value(("options", name, "default"))
    if choice and (not isinstance(choices, list) or choice.value in choices):
        number, source = choice.value, choice.source
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= MOST:
        wanted = f"options.{name}: expected a whole number from 0 to {MOST}, got {describe(number)}"
        errors.append(TopologyError(wanted, hint="it says how often repeat writes a block", source=source))
        return
    at = ("repeat", name)
    for one in range(1, number + 1):
        written = Marks(marks.file)
        block = graft(data["repeat"][name], at, marks, (), written, partial(_numbered, str(one)))
        for node in block["nodes"] if isinstance(block.get("nodes"), dict) else ():
            _be_like(data, marks, block, written, node, at, errors)
        merge(data, marks, block, written, grow=True)


def _be_like(
    data: dict[str, Any], marks: Marks, block: dict[str, Any], written: Marks, node: str, at: Path,
    errors: list[TestbedError],
) -> None:  # fmt: skip
    """Give a node of a block what the node has that it is said to be like, unless it says something else."""
    own, here = block["nodes"][node], ("nodes", node)
    if not isinstance(own, dict) or "like" not in own:
        return
    model, known = own.pop("like"), data.get("nodes")
    if not isinstance(known, dict) or model not in known:
        hint = did_you_mean(str(model), known if isinstance(known, dict) else {})
        where = written.value((*here, "like"))
        errors.append(TopologyError(f"{dotted(at)}: unknown node {model}", hint=hint, source=where))
        return
    made = Marks(marks.file)
    copy = graft(known[model], ("nodes", model), marks, here, made)
    merge(copy, made, own, written, here, grow=False)
    block["nodes"][node] = copy
    written.at.update(made.at)


def _numbered(number: str, text: str) -> Any:
    return int(number) if text == "$n" else _NUMBER.sub(number, text)


def _check_block(value: Any, path: Path, marks: Marks, errors: list[TestbedError]) -> None:
    """Report what would be lost without a word, as the first that is written stays.

    That is a value with `$n` that no `$n` in a key above makes another each time (lists grow, so that theirs
    are all there), and a key beside the one with `$n` that becomes it.
    """
    if isinstance(value, dict):
        numbered = [key for key in value if _NUMBER.search(key)]
        for key in [one for one in value if one not in numbered]:
            here = (*path, key)
            _check_block(value[key], here, marks, errors)
            for other in numbered:
                if re.fullmatch(r"[1-9]\d*".join(map(re.escape, _NUMBER.split(other))), key):
                    message = f"{dotted(here)}: {other} becomes {key} too"
                    hint = "write it outside repeat: there it overrides what is repeated"
                    errors.append(TopologyError(message, hint=hint, source=marks.key(here)))
    elif isinstance(value, str) and _NUMBER.search(value):
        message = f"{dotted(path)}: {value} differs each time, and only the first would stay"
        hint = "write $n into one of its keys too, or leave it out of the value"
        errors.append(TopologyError(message, hint=hint, source=marks.key(path)))


# Filters


class _Bad(Exception):
    """A filter that cannot be written out."""

    def __init__(self, message: str, hint: str, owner: str | None) -> None:
        super().__init__(message)
        self.hint = hint
        self.owner = owner  # the filter that is wrong itself

    def at(self, path: Path, marks: Marks) -> TopologyError:
        return TopologyError(f"{dotted(path)}: {self}", hint=self.hint, source=marks.value(path))


def _filter(text: str, filters: _Filters, above: tuple[str, ...] = ()) -> str:
    """A pcap filter with every `$NAME` written out: in parentheses, unless it is all there is."""

    def written(match: re.Match[str]) -> str:
        name = match[1]
        if name not in filters:
            hint = did_you_mean(name, filters) or "add it to filters"
            raise _Bad(f"unknown filter ${name}", hint, above[-1] if above else None)
        if len(above) >= DEEPEST_FILTER:
            message = f"filters that name each other are more than {DEEPEST_FILTER} deep"
            raise _Bad(message, "write one of them out", above[0])
        if name in above:
            raise _Bad(f"the filter {name} contains itself", "leave it out", name)
        whole = _filter(filters[name].strip(), filters, (*above, name))
        return whole if match[0] == text else f"({whole})"

    result = re.sub(r"\$([A-Za-z0-9_-]*)", written, text)
    if len(result) > LONGEST_FILTER:
        message = f"expected a filter of at most {LONGEST_FILTER} characters, with its names written out"
        raise _Bad(message, "write a shorter one", above[-1] if above else None)
    return result


def _use_filters(value: Any, path: Path, filters: _Filters, marks: Marks, errors: list[TestbedError]) -> None:
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in parts:
        if key == "filter" and isinstance(one, str):
            try:
                value[key] = _filter(one, filters)
            except _Bad as error:
                errors.append(error.at((*path, key), marks))
        else:
            _use_filters(one, (*path, key), filters, marks, errors)


# Trials


def _use_trials(data: dict[str, Any], marks: Marks, errors: list[TestbedError]) -> None:
    claims = data.get("claims")
    trials = data.get("trials", {})
    for name, claim in claims.items() if isinstance(claims, dict) else ():
        for kind in KINDS if isinstance(claim, dict) else ():
            runs = claim.get(kind)
            if isinstance(runs, list):
                for index in range(len(runs)):
                    _use_trial(runs, index, ("claims", name, kind, index), trials, marks, errors)
            elif kind in claim:
                _use_trial(claim, kind, ("claims", name, kind), trials, marks, errors)


def _use_trial(
    owner: Any,
    key: str | int,
    path: Path,
    trials: Mapping[str, Any],
    marks: Marks,
    errors: list[TestbedError],
) -> None:
    """Put a trial in place of a run that is its name, or a mapping that says `trial`."""
    use = owner[key]
    if isinstance(use, dict) and "trial" in use:
        ref, where = use.pop("trial"), (*path, "trial")
    elif isinstance(use, str):
        ref, where, use = use, path, {}
    else:
        return
    if not isinstance(ref, str) or ref not in trials:
        hint = did_you_mean(str(ref), trials) or "add it to trials"
        errors.append(
            TopologyError(f"{dotted(where)}: unknown trial {ref}", hint=hint, source=marks.value(where))
        )
        return
    owner[key] = _trial(trials[ref], ("trials", ref), use, path, marks)


def _trial(trial: dict[str, Any], at: Path, own: dict[str, Any], path: Path, marks: Marks) -> dict[str, Any]:
    """A trial with the keys that a claim writes itself: in place of the trial's, lists of what is to be seen
    and changed after the trial's.
    """
    written = Marks(marks.file)  # the trial's marks must not stand where the claim's own are still needed
    result: dict[str, Any] = graft(trial, at, marks, path, written)
    for key, value in own.items():
        here = (*path, key)
        if key in ("expect", "sets") and isinstance(value, list) and isinstance(result.get(key), list):
            append(result[key], here, written, value, here, marks)
        else:
            result[key] = graft(value, here, marks, here, written)
    marks.at.update({known: mark for known, mark in written.at.items() if known != path})
    return result
