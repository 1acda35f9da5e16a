"""Files that a running node takes a change of over: written anew where others come and go beside it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Final

from testbed.engine.api import Container, Engine
from testbed.errors import NotReadyError
from testbed.lab.inside import in_each, run_inside
from testbed.lab.interrupt import Stopping, never
from testbed.render import RenderedLab

HOSTS: Final = "/etc/testbed/hosts"
_NAMES: Final = f"cat {HOSTS} >/etc/hosts"  # as init does it


def write_live_files(
    engine: Engine, nodes: Mapping[str, Container], rendered: RenderedLab, stopping: Stopping = never
) -> None:
    """Have these running nodes what is rendered for them now, as far as they need not be replaced for it.

    Raises `NotReadyError` where a node does not take it, `KeyboardInterrupt` at once where `stopping`.
    """

    def write(name: str, container: Container) -> None:
        files = {path: file.content for path, file in rendered.nodes[name].files.items() if file.live}
        parts = [f"head -c {len(text.encode())} >{shlex.quote(path)}" for path, text in files.items()]
        script = "; ".join([*parts, _NAMES])
        done = run_inside(engine, container, ["sh", "-ec", script], stdin="".join(files.values()))
        if done.code:
            raise NotReadyError(
                f"{name} does not take {', '.join(files)}: {done.complaint}",
                hint=f"testbed logs {rendered.name} {name}",
            )

    in_each(nodes, write, stopping)
