"""Writes docs/reference.md from the models, role manifests and commands.

    python tests/reference.py

A test holds the file against what is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from testbed.claim.vocabulary import words
from testbed.cli.app import app
from testbed.document.values import format_duration
from testbed.errors import ExitCode
from testbed.lesson.fields import FIELDS
from testbed.lesson.model import Lesson
from testbed.sweep.model import Study
from testbed.topology.roles import Role, Setting, builtin_roles
from testbed.topology.schema import topology_schema

DOCUMENT = Path(__file__).parents[1] / "docs" / "reference.md"
PARTS = {
    "Option": "An option",
    "Network": "A network",
    "Node": "A node",
    "Configuration": "A configuration",
    "Selection": "The selection",
    "Claim": "A claim",
    "Spoken": "The configuration of a claim",
    "Experiment": "A run or control",
    "TrialUse": "A run or control that uses a trial",
    "Block": "What is repeated",
}
"""The models of a topology file that have keys of their own, and their titles."""
LESSON_PARTS = {
    "Task": "A task",
    "Check": "A check",
    "Answer": "A question",
    "From": "The right answer",
    "EventField": "A field of an event",
    "StateField": "A field of a daemon's state",
    "PacketField": "A field of a packet",
    "PacketCount": "A number of packets",
    "Output": "The output of a command",
    "Difference": "A change",
    "Trial": "A run of a check",
}
"""The same of a lesson."""


def reference() -> str:
    """The whole document."""
    roles = builtin_roles()
    return (
        "\n".join(
            [*_head(), *_topology(roles), *_roles(roles), *_words(), *_lessons(), *_studies(), *_commands()]
        ).rstrip()
        + "\n"
    )


def _head() -> Iterator[str]:
    yield "# Reference"
    yield ""
    yield "`python tests/reference.py` writes this page from the models, the role manifests and the commands."
    yield "A value in **bold** has to be given."


def _topology(roles: dict[str, Role]) -> Iterator[str]:
    schema = topology_schema(roles)
    yield from ("", "## Topology files", "")
    yield from _table(("key", "value", "meaning"), _keys(schema, {"name", "title", "networks", "nodes"}))
    for name, title in PARTS.items():
        part = schema["$defs"][name]
        required = set(part.get("required", ()))
        required |= {"Network": {"subnet", "domain"}, "Node": {"roles"}, "Option": {"default"}}.get(
            name, set()
        )
        yield from ("", f"### {title}", "", *_sentences(part.get("description", "")), "")
        yield from _table(("key", "value", "meaning"), _keys(part, required))


def _keys(part: dict[str, Any], required: set[str]) -> Iterator[tuple[str, str, str]]:
    for key, one in part["properties"].items():
        name = f"**{key}**" if key in required else key
        default = one.get("default")
        shown = "" if default in (None, "", [], {}) else f" (default: {_value(default)})"
        yield name, _kind(one), f"{one.get('description', '')}{shown}"


def _kind(schema: dict[str, Any]) -> str:
    """What kind of value a schema allows, in few words."""
    match schema:
        case {"$ref": str(ref)}:
            return _REFERS.get(name := ref.rpartition("/")[2], name.lower())
        case {"enum": list(values)}:
            return ", ".join(map(str, values))
        case {"const": value}:
            return _value(value)
        case {"anyOf": [{"const": str()}, *_]}:
            return "role"
        case {"anyOf": list(ways)}:
            kinds = dict.fromkeys(_kind(one) for one in ways if one.get("type") != "null")
            return " or ".join(kinds)
        case {"type": "array"}:
            return f"list of {_kind(schema.get('items', {}))}"
        case {"type": "object", "additionalProperties": dict(value)}:
            return f"name → {_kind(value)}"
        case {"type": list(kinds)}:
            return " or ".join(_WORDS.get(one, one) for one in kinds)
        case {"type": str(kind)}:
            return _WORDS.get(kind, kind)
    return "any"


_REFERS = {
    **dict.fromkeys(LESSON_PARTS, "mapping"),
    "Experiment": "run",
    "TrialUse": "run",
    "Spoken": "mapping",
    "Selection": "mapping",
    "HandOffPart": "mapping",
}
_WORDS = {"string": "text", "object": "mapping", "boolean": "true or false", "integer": "whole number"}


def _roles(roles: dict[str, Role]) -> Iterator[str]:
    yield from ("", "## Roles", "")
    yield "`roles: [NAME, …]` of a node names them, and its `settings` answer what they ask for."
    for name, role in roles.items():
        needs = [*role.needs, *(f"{one} on some node" for one in role.topology_needs)]
        needs += [f"the option {one}" for one in role.topology_options]
        yield from ("", f"### {name}", "", f"{role.summary}.")
        if needs:
            yield f"Needs: {', '.join(needs)}."
        if role.services:
            yield f"Services: {', '.join(role.services)}."
        if role.settings:
            yield ""
            rows = ((key, *_setting(key, one)) for key, one in role.settings.items())
            yield from _table(("setting", "value", "meaning"), [row[1:] for row in rows])


def _setting(key: str, one: Setting) -> tuple[str, str, str]:
    kind = ", ".join(one.choices) if one.choices else one.type
    kind += f" with the role {one.role}" if one.role else ""
    default = one.default
    if default is not None and one.type in ("duration", "lifetime"):
        default = format_duration(default)
    shown = "" if default is None else f" (default: {_value(default)})"
    return f"**{key}**" if one.required else key, kind, f"{one.help}{shown}"


def _words() -> Iterator[str]:
    for kind, title in (("step", "Steps"), ("expectation", "Expectations")):
        yield from ("", f"## {title}", "")
        yield "The value of a key marked * may stand for the whole mapping."
        for one in words():
            if one.kind == kind:
                yield from ("", f"### {one.word}", "", *_sentences(one.text))
                rows = [
                    (
                        (f"**{key.name}**" if key.required else key.name) + ("*" if key.short else ""),
                        ", ".join(key.values),
                        key.text,
                    )
                    for key in one.keys
                ]
                yield from ("", *_table(("key", "values", "meaning"), rows)) if rows else ()


def _lessons() -> Iterator[str]:
    schema = Lesson.model_json_schema()
    yield from (
        "",
        "## Lesson files",
        "",
        "`lesson.yaml` of a lesson; [lessons.md](lessons.md) builds one.",
        "",
    )
    yield from _table(("key", "value", "meaning"), _keys(schema, set(schema["required"])))
    for name, title in LESSON_PARTS.items():
        part = schema["$defs"][name]
        yield from ("", f"### {title}", "", *_sentences(part.get("description", "")), "")
        yield from _table(("key", "value", "meaning"), _keys(part, set(part.get("required", ()))))
    yield from ("", f"Fields of a packet: {', '.join(f'`{one}`' for one in FIELDS)}.")


def _studies() -> Iterator[str]:
    schema = Study.model_json_schema()
    yield from (
        "",
        "## Study files",
        "",
        "A study for `testbed sweep`; [sweeps.md](sweeps.md) explains it.",
        "",
    )
    yield from _table(("key", "value", "meaning"), _keys(schema, set(schema["required"])))
    part = schema["$defs"]["HandOffPart"]
    yield from ("", "### Hand-offs", "", *_sentences(part["description"]), "")
    yield from _table(("key", "value", "meaning"), _keys(part, set(part.get("required", ()))))


def _commands() -> Iterator[str]:
    yield from ("", "## Commands", "")
    rows = []
    groups = [(f"{one.name} ", one.typer_instance) for one in app.registered_groups]
    for group, made in [("", app), *groups]:
        for one in made.registered_commands if made else ():
            sentences = re.split(r"(?<=\.) (?=[A-Z`])", " ".join((one.help or "").split()))
            codes = [each for each in sentences if "xit code" in each]
            rows.append((f"`{group}{one.name}`", sentences[0], " ".join(codes)))
    yield from _table(("command", "what it does", "exit codes of its own"), rows)
    yield from ("", "## Exit codes", "")
    yield from _table(("code", "meaning"), [(str(int(code)), code.meaning) for code in ExitCode])


def _sentences(text: str) -> list[str]:
    return [" ".join(one.split()) for one in text.split("\n\n") if one]


def _value(value: Any) -> str:
    return (
        str(value).lower()
        if isinstance(value, bool)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    titles = list(head)
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * len(titles)}"
    for row in rows:
        yield f"| {' | '.join(one.replace('|', chr(92) + '|') for one in row)} |"


if __name__ == "__main__":
    import testbed.cli  # noqa: F401  # registers the commands

    DOCUMENT.write_text(reference(), encoding="utf-8")
