"""From a name or a path to a topology that passed every check."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from testbed.data import data_dir
from testbed.document.read import place, validate_model
from testbed.errors import UsageError, raise_errors
from testbed.topology.check import Checker
from testbed.topology.expand import TopologyFile, expand
from testbed.topology.include import read_document
from testbed.topology.loaded import LoadedTopology
from testbed.topology.overrides import Sets
from testbed.topology.roles import load_roles, role_files

SUFFIXES = (".yaml", ".yml")


SOLUTIONS = "solutions"
"""The folder of the built-in topologies that are solutions, and how their names begin."""


def builtin_topologies() -> dict[str, Path]:
    """The topologies that come with the product, by name: `scenario-2.1`, `solutions/nothing`."""
    folder = data_dir("topologies")
    return {
        file.relative_to(folder).with_suffix("").as_posix(): file
        for files in (folder.glob("*.yaml"), folder.glob(f"{SOLUTIONS}/*.yaml"))
        for file in sorted(files, key=lambda file: file.stem)
    }


def builtin_name(file: str) -> str | None:
    """What a built-in topology is called on the command line, by its file; None for another file."""
    return next((name for name, path in builtin_topologies().items() if str(path) == file), None)


def builtin_claims() -> dict[str, str]:
    """Every claim of the built-in topologies, and a topology that makes it and has the roles it needs."""
    found = {}
    for name, file in builtin_topologies().items():
        document = read_document(file, str(file))[0]
        roles = {role for node in document.get("nodes", {}).values() for role in node.get("roles", ())}
        for claim, given in document.get("claims", {}).items():
            needed = given.get("needs", {}).get("roles", [])
            if roles.issuperset([needed] if isinstance(needed, str) else needed):
                found[claim] = name
    return found


def is_path(ref: str) -> bool:
    """Whether a reference to a topology is a path: no built-in name, and with a slash or a `.yaml` ending."""
    return ref not in builtin_topologies() and ("/" in ref or ref.endswith(SUFFIXES))


def relative_to(folder: Path, ref: str) -> str:
    """A reference to a topology that stands in a file of a folder: paths are relative to the folder."""
    return str(folder / ref) if is_path(ref) else ref


def find_topology(ref: str) -> Path:
    """The file that `ref` means: the name of a built-in topology, or the path of a file.

    Raises `UsageError` with the nearest name.
    """
    builtin = builtin_topologies()
    if ref in builtin:
        return builtin[ref]
    path = Path(ref)
    try:
        is_dir, is_file = path.is_dir(), path.is_file()
    except OSError:  # a name longer than any file's
        is_dir = is_file = False
    if is_dir:
        raise UsageError(f"{path} is a directory", hint="name the topology file in it")
    if is_file:
        return path
    stem = path.name.removesuffix(".yaml").removesuffix(".yml")
    within = f"{SOLUTIONS}/{stem}"
    near = [within] if within in builtin else get_close_matches(stem, builtin, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"the built-in ones are {', '.join(builtin)}"
    if is_path(ref):
        raise UsageError(f"no such file: {ref}", hint=hint)
    raise UsageError(f"no topology called {ref}", hint=f"{hint} (a file of your own: ./{ref}.yaml)")


def load_topology(
    ref: str, *, sets: Sequence[str] = (), templates: Path | None = None, stored: bool = False
) -> LoadedTopology:
    """Read, write out, override, validate and check a topology.

    `ref` is a built-in name or a path; `sets` are `--set` texts (`network.internet.delay=40ms`); `templates`
    is the user's own template folder, whose roles override the built-in ones. With `stored` it is the file of
    an evidence folder, which includes no other. Every error of a stage is raised at once: a single one as it
    is, several as an `ErrorGroup`.
    """
    path = find_topology(ref)
    data, marks = read_document(
        path,
        ref if path == Path(ref) else str(path),
        tuple(TopologyFile.model_fields),
        stored=stored,
    )
    changes = Sets.read(data, sets)
    filters = expand(data, marks, changes.choices)
    changes.apply(data, marks)
    topology = validate_model(TopologyFile, data, marks)

    files = role_files(templates)
    used = dict.fromkeys(role for node in topology.nodes.values() for role in node.roles)
    roles = load_roles(used, files)
    checker = Checker(topology, roles, marks, known_roles=list(files))
    options = checker.options(changes.choices)
    settings = checker.settings()
    checker.check()
    raise_errors(sorted(checker.errors, key=place))
    return LoadedTopology(
        topology=topology,
        file=marks.file,
        sets=tuple(sets),
        templates=templates,
        roles=roles,
        options=options,
        settings=settings,
        marks=marks,
        document=data,
        filters=filters,
    )
