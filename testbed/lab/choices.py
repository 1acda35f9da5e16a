"""What a lab was brought up with: its topology, `--set` texts and template folder. A later `up` keeps them.

Containers carry it as a label from the day they were made; what is chosen later is written into every running
node besides. The newest counts. Template folder and topology file are read from labels alone: templates run
code on this machine, and root inside a node can write the node's file.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from testbed.agreed import RUN
from testbed.engine import names
from testbed.engine.api import Container, Engine
from testbed.errors import ErrorGroup, TestbedError, UsageError, raise_errors
from testbed.lab.inside import in_each, run_inside
from testbed.lab.state import ActualLab
from testbed.topology.load import builtin_name, load_topology
from testbed.topology.loaded import LoadedTopology
from testbed.topology.overrides import target

_FILE: Final = f"{RUN}/choices.json"
_FORGET: Final = "the lab was brought up with it; --reset goes back to what the file says"


@dataclass(frozen=True, slots=True)
class Choices:
    """The choices, and when they were made (seconds since the epoch)."""

    sets: tuple[str, ...]
    templates: str | None
    time: float
    file: str | None = None
    """The topology file, or the name of a built-in one; None in labels of earlier versions."""

    @classmethod
    def of(cls, topology: LoadedTopology) -> Choices:
        """What a topology was loaded with, as of now."""
        templates = str(topology.templates.resolve()) if topology.templates else None
        file = builtin_name(topology.file) or str(Path(topology.file).resolve())
        return cls(topology.sets, templates, time.time(), file)

    @classmethod
    def parse(cls, text: str) -> Choices | None:
        """Read what `text` wrote; None for anything else."""
        try:
            found = json.loads(text)
            sets = tuple(map(str, found["sets"]))
            return cls(sets, found["templates"], float(found["time"]), found.get("file"))
        except (ValueError, KeyError, TypeError):
            return None

    @property
    def text(self) -> str:
        """JSON, for a label or a file."""
        return json.dumps(asdict(self))

    def with_impairments_of(self, before: Choices | None) -> Choices:
        """These choices, but with the impairments of networks that were chosen before; as of now."""
        sets = [text for text in self.sets if not _impairs(text)]
        sets += [text for text in before.sets if _impairs(text)] if before else []
        return replace(self, sets=tuple(sets), time=time.time())

    def with_sets(self, sets: Sequence[str]) -> Choices:
        """These choices and further ones, as of now; of two for the same thing the later stays."""
        return replace(self, sets=merge(self.sets, sets), time=time.time())


def _impairs(text: str) -> bool:
    section, *_, key = target(text)
    return section == "networks" and key in ("delay", "jitter", "loss", "rate")


def merge(*texts: Sequence[str]) -> tuple[str, ...]:
    """`--set` texts one after the other; of two for the same thing the later stays."""
    by_target = {target(text): text for several in texts for text in several}
    return tuple(by_target.values())


def recorded(engine: Engine, lab: ActualLab) -> Choices | None:
    """The newest choices of a lab; None where nothing of it runs or ran. Raises `TestbedError`.

    Their template folder and topology file are those of the newest label.
    """
    labels = [Choices.parse(each.labels.get(names.CHOICES, "")) for each in lab.containers]
    made = max((each for each in labels if each), key=lambda each: each.time, default=None)
    running = next((each for each in lab.containers if each.state == "running"), None)
    if running is None:
        return made
    noted = Choices.parse(run_inside(engine, running, ["cat", _FILE]).text)
    if noted is None or (made and made.time >= noted.time):
        return made
    return replace(noted, templates=made.templates if made else None, file=made.file if made else None)


def remember(engine: Engine, nodes: Mapping[str, Container], choices: Choices) -> None:
    """Write choices into running nodes. Raises `TestbedError`."""

    def write(name: str, container: Container) -> None:
        run_inside(engine, container, ["sh", "-c", f"cat >{_FILE}"], stdin=choices.text)

    in_each(nodes, write)


def keep_choices(before: Choices | None, topology: LoadedTopology) -> LoadedTopology:
    """A topology as it is with what its lab was brought up with, wherever nothing else is chosen now.

    Raises `UsageError` where the topology file does not take an earlier choice any more.
    """
    if before is None:
        return topology
    sets = merge(before.sets, topology.sets)
    templates = topology.templates or (Path(before.templates) if before.templates else None)
    if templates and not templates.is_dir():
        raise UsageError(f"the template folder {templates} is not there any more", hint=_FORGET)
    if sets == topology.sets and templates == topology.templates:
        return topology
    try:
        return load_topology(topology.file, sets=sets, templates=templates)
    except TestbedError as error:
        old = {f"--set {text}" for text in before.sets if text not in topology.sets}
        raise_errors(
            UsageError(each.message, hint=_FORGET, source=each.source)
            if each.source and each.source.file in old
            else each
            for each in (error.errors if isinstance(error, ErrorGroup) else (error,))
        )
        raise


def as_before(before: Choices | None, topology: LoadedTopology) -> LoadedTopology:
    """A topology with what its lab was brought up with.

    It is returned as it is where that is the same, or not valid any more.
    """
    if before is None or before.sets == topology.sets:
        return topology
    try:
        return load_topology(topology.file, sets=before.sets, templates=topology.templates)
    except TestbedError:
        return topology


def up_command(topology: LoadedTopology, lab: str, *flags: str) -> str:
    """The command that makes a lab what a topology says, whether it differs or only a node of it has died."""
    sets = [word for one in topology.sets for word in ("--set", one)]
    file = builtin_name(topology.file) or topology.file
    return shlex.join(["testbed", "up", file, "--name", lab, *flags, *sets])


def differences(before: LoadedTopology, after: LoadedTopology) -> list[str]:
    """How two ways of loading one topology file differ, each as `network.internet.delay 10ms → 40ms`."""
    found = [
        f"option.{name} {value} → {after.options[name]}"
        for name, value in before.options.items()
        if name in after.options and after.options[name] != value
    ]
    for section in ("networks", "nodes", "images"):
        old, new = before.document.get(section, {}), after.document.get(section, {})
        found += [
            f"{section.removesuffix('s')}.{'.'.join(path)} {_text(was)} → {_text(now)}"
            for path, was, now in _leaves(old, new)
        ]
    return found


def _leaves(old: Any, new: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any, Any]]:
    """Every place where two trees differ, and what stands there in each (None: nothing)."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [] if old == new else [(path, old, new)]
    return [leaf for key in {**old, **new} for leaf in _leaves(old.get(key), new.get(key), (*path, str(key)))]


def _text(value: Any) -> str:
    return "unset" if value is None else value if isinstance(value, str) else json.dumps(value)
