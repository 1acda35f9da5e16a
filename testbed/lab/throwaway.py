"""Containers that are made for one command, to find out what this machine can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from testbed.engine.api import ContainerSpec, Endpoint, Engine


def run_throwaway(
    engine: Engine,
    name: str,
    image: str,
    command: Sequence[str],
    *,
    label: str,
    endpoints: Sequence[Endpoint] = (),
    sysctls: Mapping[str, str] | None = None,
) -> list[str]:
    """Run a command in a container of its own, which is removed in any case; return the lines it printed.

    Raises `EngineError`.
    """
    container = engine.create_container(
        ContainerSpec(
            name=name,
            hostname="doctor",
            image=image,
            labels={label: "1"},
            endpoints=tuple(endpoints),
            archive=b"",
            sysctls=sysctls or {},
            command=tuple(command),
        )
    )
    try:
        engine.start_container(container)
        return [line.text for line in engine.logs(container, follow=True)]
    finally:
        engine.remove_container(container)
