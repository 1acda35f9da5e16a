"""Whether a lab can be on several engines, found out by laying the wires of one that has no nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from secrets import token_hex

from testbed.engine import names
from testbed.engine.image import node_image_name
from testbed.engine.joined import JoinedEngine
from testbed.engine.members import join, parse_engines, prepare_image
from testbed.engine.span import Say
from testbed.engine.vtep import MOST, OVERHEAD, PORT
from testbed.errors import ErrorGroup, TestbedError
from testbed.lab.doctor import Check, Level
from testbed.lab.down import remove_labs


def examine_engines(options: Sequence[str], say: Say, *, fix: bool = False) -> Iterator[Check]:
    """Yield what is found out about the engines of `--engine`; `fix` builds the node image where none has it.

    Raises `UsageError` for options that do not fit.
    """
    addresses = parse_engines(options)
    try:
        engine = join(addresses, say, all_of_them=True)
    except TestbedError as error:
        for one in error.errors if isinstance(error, ErrorGroup) else (error,):
            yield Check("engines", Level.FAIL, one.message, one.hint)
        return
    with closing(engine):
        facts = engine.facts()
        yield Check("engines", Level.OK, f"{facts.name} {facts.version}: {engine.address}")
        if fix or engine.has_image(node_image_name()):
            yield _way(engine, say)
        else:
            how = (
                "testbed doctor --fix (or the next up) builds it; the way between engines is tried after that"
            )
            yield Check("image", Level.WARN, "no engine has the node image yet", how)


def _way(engine: JoinedEngine, say: Say) -> Check:
    """Try the way between the engines, as `up` does, and remove what that takes."""
    lab = f"doctor-{token_hex(3)}"
    try:
        prepare_image(engine, say, say)
        try:
            mtu = engine.span({names.LAB: lab, names.OWNER: names.owner()}).mtu
        finally:
            remove_labs(engine, lab)
    except TestbedError as error:
        return Check("way", Level.FAIL, error.message, error.hint)
    detail = f"UDP port {PORT} is open between the hosts, and links have MTU {mtu}"
    if mtu < MOST:
        detail += f" ({MOST} where the hosts' interfaces have {MOST + OVERHEAD})"
    return Check("way", Level.OK, detail)
