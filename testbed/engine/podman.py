"""Podman (4.3 and later) behind the same protocols, through the Docker API of its socket.

Some things are done in another way. A network is internal and has no name service: netavark then gives its
bridge neither an address nor firewall rules, and what routers in containers send passes. It is removed by
name: by id Podman removes a network that is in use. A container is killed before it is removed: else Podman
waits 10 s for those that ignore its signal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, Final

from testbed.engine.api import EngineError, EngineFacts, Line, LogStream, NetworkSpec, NotFoundError, Stream
from testbed.engine.docker import DockerEngine
from testbed.engine.translate import errors, raise_for_status

PODMAN: Final = "Podman"  # in `EngineFacts.name`


def is_podman(version: Mapping[str, Any]) -> bool:
    """Say whether it is Podman that answers `GET /version` so."""
    return any(one.get("Name") == "Podman Engine" for one in version.get("Components") or ())


class _News:
    """A log without its first line, and without the streams that nobody wants."""

    def __init__(self, log: LogStream, wanted: Collection[Stream]) -> None:
        self._log = log
        self._wanted = wanted

    def __iter__(self) -> Iterator[Line]:
        return (line for line in islice(self._log, 1, None) if line.stream in self._wanted)

    def close(self) -> None:
        """End the stream."""
        self._log.close()


class PodmanEngine(DockerEngine):
    """The calls of `api.Engine` and `image.Builder`; safe to share between threads."""

    def facts(self) -> EngineFacts:
        """Say what engine this is."""
        return replace(super().facts(), name=PODMAN)

    def create_network(self, spec: NetworkSpec) -> str:
        """Create a bridge that is a plain wire. Raises `EngineError` where it is to have a `parent`."""
        if spec.parent:
            raise EngineError(
                f"{PODMAN} at {self.address} cannot share a lab with another engine",
                hint="use Docker Engine for labs on several engines",
            )
        asked = {
            "name": spec.name,
            "driver": "bridge",
            "subnets": [{"subnet": str(spec.subnet)}],
            "internal": True,
            "dns_enabled": False,
            "labels": dict(spec.labels),
        }
        with errors(f"create network {spec.name} ({spec.subnet})"):
            answer = self._api.post(f"{self._api.base_url}/v4.0.0/libpod/networks/create", json=asked)
            raise_for_status(answer)
        return str(answer.json()["id"])

    def logs(
        self,
        id: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        stdout: bool = True,
        stderr: bool = True,
    ) -> LogStream:
        """Read a started container's log; following one that does not run ends where its log ends."""
        if not (follow and tail == 0):
            return super().logs(id, follow=follow, tail=tail, stdout=stdout, stderr=stderr)
        # Podman 4 answers with the first line that it has: asked for none, only when there is another one.
        given: dict[Stream, bool] = {"stdout": stdout, "stderr": stderr}
        return _News(super().logs(id, follow=True, tail=1), {name for name in given if given[name]})

    def remove_network(self, id: str) -> None:
        """Remove a network. A missing one is fine."""
        with contextlib.suppress(NotFoundError), errors(f"remove network {id[:12]}"):
            self._api.remove_network(self._api.inspect_network(id)["Name"])

    def remove_container(self, id: str) -> None:
        """Kill and remove it with its volumes. A missing one, or one being removed already, is fine."""
        with contextlib.suppress(EngineError), errors(f"kill container {id[:12]}"):
            self._api.kill(id)
        try:
            super().remove_container(id)
        except EngineError as error:
            if "cleaning up container" not in error.message:
                raise
            # netavark misses the links that the node renamed; the container may be gone all the same.
            super().remove_container(id)
