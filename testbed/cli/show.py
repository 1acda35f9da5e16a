"""`testbed show`: one topology, for reading."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any

import typer

from testbed.cli.app import TOPOLOGIES, command
from testbed.cli.options import Output, Sets, Templates, TopologyRef, load_typed
from testbed.cli.output import Format, console, emit, emit_json, emit_rows, emit_text
from testbed.errors import UsageError

if TYPE_CHECKING:
    from testbed.topology.loaded import LoadedTopology


@command("show", panel=TOPOLOGIES)
def show(
    topology: TopologyRef,
    yaml: Annotated[
        bool,
        typer.Option(
            "--yaml",
            help="One YAML file with everything included and written out; comments say where it comes from.",
        ),
    ] = False,
    sets: Sets = None,
    templates: Templates = None,
    output: Output = Format.table,
) -> None:
    """Show the networks, nodes, options, configurations and claims of a topology."""
    from testbed.topology.summary import summarize

    if yaml and output is not Format.table:
        raise UsageError("--yaml and -o json: choose one of the two")
    loaded = load_typed(topology, sets, templates)
    if yaml:
        emit_text(loaded.text(origins=True).rstrip("\n"))
        return
    facts = summarize(loaded)
    if output is Format.json:
        emit_json(facts)
    else:
        _print(loaded, facts)


def _print(loaded: LoadedTopology, facts: dict[str, Any]) -> None:
    from rich.text import Text

    from testbed.topology.summary import impairments

    emit(Text.assemble((facts["name"], "bold"), "  ", facts["title"]))
    if facts["source"]:
        emit(facts["source"])
    if facts["summary"]:
        emit("\n" + fill(facts["summary"], min(console().width, 100)))
    emit()
    emit_rows(
        ("NETWORK", "SUBNET", "DOMAIN", "MEDIUM", "HUB", "NODES"),
        [
            (
                name,
                net["subnet"],
                net["domain"],
                net["medium"],
                " ".join(filter(None, (net["hub"], impairments(loaded.topology.networks[name])))),
                ", ".join([*net["nodes"], *(f"({node})" for node in net["attachable"])]),
            )
            for name, net in facts["networks"].items()
        ],
        title="Networks",
        keep=("SUBNET",),
    )
    emit()
    emit_rows(
        ("NODE", "ROLES", "LINKS"),
        [(name, ", ".join(node["roles"]), _links(node)) for name, node in facts["nodes"].items()],
        title="Nodes",
    )
    emit()
    emit_rows(
        ("NODE, SETTING", "VALUE", "MEANING"),
        _settings(loaded, facts),
        title="Settings",
        keep=("VALUE",),
    )
    if facts["options"]:
        emit()
        emit_rows(
            ("OPTION", "VALUE", "CHOICES", "MEANING"),
            [
                (name, one["value"], ", ".join(map(str, one["choices"] or ["any"])), one["help"])
                for name, one in facts["options"].items()
            ],
            title="Options",
        )
    if facts["configurations"]:
        emit()
        emit_rows(
            ("STACK", "ATTACHMENT", "NETWORKS"),
            [
                (one["stack"], one["attachment"], ", ".join(one["networks"]))
                for one in facts["configurations"]
            ],
            title="Configurations",
        )
    if facts["claims"]:
        emit()
        emit(Text("Claims (testbed verify decides claims, testbed explain ID explains a claim)", "bold"))
        for name, claim in facts["claims"].items():
            emit(Text.assemble((name, "bold cyan"), f"  {claim['source']}"))
            _emit_indented(claim["says"], "  ")
            for kind in ("run", "control"):
                for number, one in enumerate(claim[kind], 1):
                    _emit_run(f"{kind} {number}" if len(claim[kind]) > 1 else kind, one)


def _emit_run(head: str, run: dict[str, Any]) -> None:
    lab = [run["topology"]] if run["topology"] else []
    lab += [f"{name} {value}" for name, value in run["options"].items()] + run["sets"]
    _emit_indented(f"{head}: {', '.join(lab)}" if lab else f"{head}:", "    ")
    for number, step in enumerate(run["steps"], 1):
        _emit_indented(f"{number}. {step}", "      ")
    for expectation in run["expect"]:
        _emit_indented(f"→ {expectation}", "      ")


def _emit_indented(text: str, pad: str) -> None:
    width = min(console().width, 120)
    emit(fill(text, width, initial_indent=pad, subsequent_indent=f"{pad}   ", break_on_hyphens=False))


def _links(node: dict[str, Any]) -> str:
    lines = [f"{network} {address.partition('/')[0]}" for network, address in node["links"].items()]
    if node["attaches"]:
        lines.append("moves between " + ", ".join(node["attaches"]))
    return "\n".join(lines)


def _settings(loaded: LoadedTopology, facts: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """A line for each node that has settings, and below it a line for each of them."""
    for name, node in facts["nodes"].items():
        if any(value is not None for value in node["settings"].values()):
            yield name, "", ""
        meaning = {key: one.help for role in loaded.node_roles(name) for key, one in role.settings.items()}
        given = loaded.node(name).settings
        for key, value in node["settings"].items():
            if value is not None:
                text = _text(value)
                yield f"  {key}", text if key in given else f"{text} (default)", meaning[key]


def _text(value: object) -> str:
    """A setting's value in the words of a topology file."""
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
