"""Nodes that stay while others come and go beside them: what they have to learn of it."""

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
# The names, as init does it. A node that replaces another has its link address: who knows it sends at
# once, and bridges that have not heard of the node yet hand that to everybody.
_REST: Final = f"cat {HOSTS} >/etc/hosts; ip neighbour flush all"


def bring_up_to_date(
    engine: Engine, nodes: Mapping[str, Container], rendered: RenderedLab, stopping: Stopping = never
) -> None:
    """Give running nodes their `live` files as they are rendered now, and let them ask for their neighbours.

    Raises `NotReadyError` where a node does not take it, `KeyboardInterrupt` at once where `stopping`.
    """

    def write(name: str, container: Container) -> None:
        files = {path: file.content for path, file in rendered.nodes[name].files.items() if file.live}
        parts = [f"head -c {len(text.encode())} >{shlex.quote(path)}" for path, text in files.items()]
        script = "; ".join([*parts, _REST])
        done = run_inside(engine, container, ["sh", "-ec", script], stdin="".join(files.values()))
        if done.code:
            raise NotReadyError(
                f"{name} does not take {', '.join(files)}: {done.complaint}",
                hint=f"testbed logs {rendered.name} {name}",
            )

    in_each(nodes, write, stopping)
