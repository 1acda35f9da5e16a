"""Reaching the engines of a lab: the usual one, or those that `--engine`, a note or a label names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, cast

from testbed.engine import connect, image, names, provision, record
from testbed.engine.api import Engine, EngineError
from testbed.engine.docker import DockerEngine
from testbed.engine.joined import JoinedEngine
from testbed.engine.place import named_place
from testbed.engine.span import Say, in_each
from testbed.errors import MachineError, TestbedError, UsageError, raise_errors

OPTION: Final = "--engine"
_SHAPE: Final = f"{OPTION} NAME=ADDRESS, such as {OPTION} a=ssh://lab.example.net"


def parse_engines(options: Sequence[str]) -> dict[str, str]:
    """Name → address of what `--engine` says, at least two. Raises `UsageError`."""
    found: dict[str, str] = {}
    for option in options:
        name, sign, address = option.partition("=")
        if not (sign and address and names.is_engine_name(name)):
            raise UsageError(f"{OPTION} {option}: expected NAME=ADDRESS or NAME=CONTEXT", hint=_SHAPE)
        if name in found:
            raise UsageError(f"{OPTION} {option}: the name {name} is given twice", hint=_SHAPE)
        if address in found.values():
            raise UsageError(f"{OPTION} {option}: this engine is named twice", hint=_SHAPE)
        found[name] = address
    if len(found) == 1:
        raise UsageError(
            f"{OPTION} {options[0]}: a lab on several engines needs two at least",
            hint="for a single other engine: DOCKER_HOST=ADDRESS, or --context NAME",
        )
    return found


def join(addresses: Mapping[str, str], say: Say, *, all_of_them: bool = False) -> JoinedEngine:
    """Reach several engines as one. Those that do not answer are left out, and that is said.

    Raises `EngineError` where none answers, or with `all_of_them` where one does not, and `MachineError` for
    machines that cannot run the same image.
    """
    lost: dict[str, EngineError] = {}

    def reach(name: str) -> DockerEngine | None:
        try:
            return connect.connect(named_place(addresses[name], f"{OPTION} {name}={addresses[name]}"))
        except EngineError as error:
            lost[name] = EngineError(f"engine {name}: {error.message}", hint=error.hint)
            return None

    found = {name: one for name, one in in_each(addresses, reach).items() if one is not None}
    try:
        if all_of_them or not found:
            raise_errors(lost[name] for name in addresses if name in lost)
        if all_of_them:
            _compare(found, say)
    except TestbedError:
        for one in found.values():
            one.close()
        raise
    return JoinedEngine(found, addresses, say, lost)


def _compare(members: Mapping[str, Engine], say: Say) -> None:
    """Say in what engines differ. Raises `MachineError` where a lab cannot be on all of them."""
    facts = in_each(members, lambda name: members[name].facts())

    def each(what: Mapping[str, str]) -> str:
        return ", ".join(f"{name} {one}" for name, one in what.items())

    machines = {name: one.architecture for name, one in facts.items()}
    if len({*machines.values()}) > 1:
        raise MachineError(
            f"the engines' machines are of different architectures: {each(machines)}",
            hint="all nodes of a lab run one image: name engines of one architecture",
        )
    versions = {name: f"{one.name} {one.version}" for name, one in facts.items()}
    if len({*versions.values()}) > 1:
        say(f"the engines differ: {each(versions)}")


def lab_engine(lab: str, say: Say) -> Engine:
    """Reach the engine that a lab is on, or the engines; the usual one where there is no such lab.

    Raises `EngineError`.
    """
    if addresses := record.recorded(lab):
        return join(addresses, say)
    engine = connect.connect()
    if addresses := _spanned(engine, lab).get(lab):
        engine.close()
        return join(addresses, say)
    return engine


def choose_engine(options: Sequence[str], labs: Sequence[str], say: Say) -> Engine:
    """Reach the engine, or the engines, that labs are to be brought up on; all of them have to answer.

    They are those of `--engine`, else those that a lab is on already, else the usual one, which is installed
    where that is allowed. Raises `EngineError`, and `UsageError` where a lab is on other engines.
    """
    wanted = parse_engines(options)
    known = {lab: there for lab in labs if (there := record.recorded(lab))}
    engine: Engine | None = None
    if not wanted and not known:
        engine = provision.reach_engine(say)
        known = {lab: there for lab in labs if (there := _spanned(engine, lab).get(lab))}
    for lab, there in known.items():
        if record.text(wanted or there) != record.text(there):
            are = " ".join(f"{OPTION} {name}={address}" for name, address in there.items())
            raise UsageError(
                f"lab {lab} is on other engines: {are}",
                hint=f"leave {OPTION} out, choose another name, or remove it first: testbed down {lab}",
            )
    if engine is not None and not known:
        return engine
    if engine is not None:
        engine.close()
    return join(wanted or next(iter(known.values())), say, all_of_them=True)


def prepare_image(engine: Engine, say: Say, detail: Say) -> str:
    """Build the node image unless it is there, and return its name. Raises as `ensure_node_image`.

    Of several engines it is enough that one has it.
    """
    if not isinstance(engine, JoinedEngine):
        return image.ensure_node_image(cast(image.Builder, engine), say, detail=detail).name
    name = image.node_image_name()
    if not engine.has_image(name):
        name = image.ensure_node_image(cast(image.Builder, engine.bare), say, detail=detail).name
    engine.vtep_image = name
    return name


def all_engines(wanted: str | None, say: Say) -> list[Engine]:
    """Reach the usual engine, and before it those of labs that are on several, as far as anything says so.

    `wanted` limits these labs to a pattern. Where no engine of such a lab answers, or the usual one does not
    while there are others, that is said. Raises `EngineError` where there is no other.
    """
    known = record.all_recorded()
    usual: Engine | None = None
    try:
        usual = connect.connect()
        known = _spanned(usual, "") | known
    except EngineError as error:
        if not known:
            raise
        say(error.message)
    sets = {record.text(each): each for lab, each in known.items() if names.matches(lab, wanted)}
    found: list[Engine] = []
    for addresses in sets.values():
        try:
            found.append(join(addresses, say))
        except EngineError as error:
            say(error.message)
    return [*found, *([usual] if usual else [])]


def _spanned(engine: Engine, lab: str) -> dict[str, dict[str, str]]:
    """The labs (or one) on an engine that are also on others: lab → name → address."""
    return {
        one.labels[names.LAB]: addresses
        for one in engine.containers({names.LAB: lab, names.ENGINES: ""})
        if (addresses := record.parse(one.labels[names.ENGINES]))
    }
