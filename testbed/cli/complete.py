"""Shell completion of what a topology has. It is silent: what cannot be read completes to nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import typer

from testbed.errors import TestbedError

if TYPE_CHECKING:
    from testbed.topology.loaded import LoadedTopology

Completer = Callable[[typer.Context, str], list[str]]


def complete_topology(incomplete: str) -> list[str]:
    """Complete the name of a built-in topology, or the path of a YAML file."""
    from testbed.topology.load import SUFFIXES, builtin_topologies

    names = [name for name in builtin_topologies() if name.startswith(incomplete)]
    return names + (_paths(incomplete, tuple(SUFFIXES)) if incomplete else [])


def complete_evidence(incomplete: str) -> list[str]:
    """Complete the path of an evidence folder or archive."""
    from testbed.evidence.archive import SUFFIXES

    return _paths(incomplete, SUFFIXES)


def complete_context(incomplete: str) -> list[str]:
    """Complete the name of a docker context."""
    from testbed.engine.place import context_names

    return [name for name in context_names() if name.startswith(incomplete)]


def _paths(incomplete: str, suffixes: tuple[str, ...]) -> list[str]:
    """Folders, and files whose names end so."""
    folder, slash, begun = incomplete.rpartition("/")
    try:
        files = sorted(Path(folder + slash or ".").expanduser().iterdir())
    except OSError:
        return []
    return [
        f"{folder}{slash}{file.name}" + "/" * file.is_dir()
        for file in files
        if file.name.startswith(begun)
        and (begun or not file.name.startswith("."))
        and (file.name.endswith(suffixes) or file.is_dir())
    ]


def _of_topology(known: Callable[[LoadedTopology], Iterable[str]]) -> Completer:
    def complete(context: typer.Context, incomplete: str) -> list[str]:
        loaded = _loaded(context)
        return [one for one in known(loaded) if one.startswith(incomplete)] if loaded else []

    return complete


def _loaded(context: typer.Context) -> LoadedTopology | None:
    from testbed.topology.load import load_topology

    ref = context.params.get("topology")
    if ref is None:  # an option still lacks its value, and with it the parser leaves the arguments alone
        arguments = [one.name for one in context.command.params if one.param_type_name == "argument"]
        ref = dict(zip(arguments, context.args, strict=False)).get("topology", "")
    try:
        return load_topology(ref, templates=context.params.get("templates"))
    except (TestbedError, OSError):
        return None


def _choices(loaded: LoadedTopology, option: str) -> list[str]:
    known = loaded.topology.options.get(option)
    if known is None:
        return []
    if isinstance(known.default, bool):
        return ["true", "false"]
    return [str(one) for one in known.choices or [known.default]]


complete_stack = _of_topology(lambda loaded: _choices(loaded, "stack"))
complete_attach = _of_topology(lambda loaded: _choices(loaded, "attach"))
complete_claim = _of_topology(lambda loaded: loaded.topology.claims)


def complete_claim_anywhere(incomplete: str) -> list[str]:
    """Complete a claim of any built-in topology."""
    from testbed.topology.load import builtin_claims

    return [one for one in builtin_claims() if one.startswith(incomplete)]


def complete_solution(incomplete: str) -> list[str]:
    """Complete the name of a built-in solution, with or without its folder, or the path of a YAML file."""
    from testbed.topology.load import SOLUTIONS, SUFFIXES, builtin_topologies

    names = [name for name in builtin_topologies() if name.startswith(f"{SOLUTIONS}/")]
    short = [name.removeprefix(f"{SOLUTIONS}/") for name in names]
    known = [name for name in (*short, *names) if incomplete and name.startswith(incomplete)] or (
        [] if incomplete else short
    )
    return known + (_paths(incomplete, tuple(SUFFIXES)) if incomplete else [])


def complete_simulated(incomplete: str) -> list[str]:
    """Complete the name of a solution that can be simulated."""
    from testbed.simulate.solutions import SOLUTIONS

    return [name for name in SOLUTIONS if name.startswith(incomplete)]


def complete_guideline(incomplete: str) -> list[str]:
    """Complete the number of a guideline of the built-in solutions."""
    from testbed.topology.load import SOLUTIONS, builtin_topologies, load_topology

    names = (name for name in builtin_topologies() if name.startswith(f"{SOLUTIONS}/"))
    guidelines = dict.fromkeys(one for name in names for one in load_topology(name).topology.guidelines)
    return [one for one in guidelines if one.startswith(incomplete)]


def complete_any_stack(incomplete: str) -> list[str]:
    """Complete a stack where no topology is named."""
    from testbed.topology.model import Stack

    return [one for one in get_args(Stack) if one.startswith(incomplete)]


def complete_between(context: typer.Context, incomplete: str) -> list[str]:
    """Complete two networks that the mobile node attaches to, `A,B`."""
    loaded = _loaded(context)
    if loaded is None or not loaded.mobile_nodes:
        return []
    networks = loaded.node(loaded.mobile_nodes[0]).attaches
    first, comma, second = incomplete.partition(",")
    if not comma:
        return [f"{one}," for one in networks if one.startswith(first)]
    return [f"{first},{one}" for one in networks if one.startswith(second) and one != first]


def complete_set(context: typer.Context, incomplete: str) -> list[str]:
    """Complete a `--set` word by word, and the values of options."""
    loaded = _loaded(context)
    return [one for one in _sets(loaded, incomplete) if one.startswith(incomplete)] if loaded else []


def _sets(loaded: LoadedTopology, incomplete: str) -> Iterator[str]:
    from testbed.topology.model import Network, Node
    from testbed.topology.roles import builtin_roles

    topology = loaded.topology
    path, equals, _ = incomplete.partition("=")
    section, *names = path.split(".")
    if not names:
        yield from ("network.", "node.", "option.", "image.", "role.")
    elif section == "option" and equals:
        yield from (f"{path}={value}" for value in _choices(loaded, names[0]))
    elif section == "option":
        yield from (f"option.{name}=" for name in topology.options)
    elif section == "role" and equals:
        yield from (f"{path}={name}" for name, one in builtin_roles().items() if names[0] in one.acts_as)
    elif section in ("image", "role"):
        yield from (f"{section}.{role}=" for role in loaded.roles)
    elif len(names) == 1:
        parts = {"network": list(topology.networks), "node": list(topology.nodes)}.get(section, [])
        yield from (f"{section}.{name}." for name in parts)
    elif section == "network" and names[0] in topology.networks:
        yield from (f"network.{names[0]}.{key}=" for key in Network.model_fields)
    elif section == "node" and names[0] in topology.nodes:
        keys = {*loaded.settings[names[0]], *Node.model_fields} - {"settings"}
        yield from (f"node.{names[0]}.{key}=" for key in sorted(keys))


def complete_word(incomplete: str) -> list[str]:
    """Complete a word of the vocabulary."""
    from testbed.claim.vocabulary import words

    return [word for word in dict.fromkeys(one.word for one in words()) if word.startswith(incomplete)]
