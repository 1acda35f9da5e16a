"""Podman (4.3 and later) behind the same protocols, through the Docker API of its socket.

Some things are done in another way. A network is internal and has no name service: netavark then gives its
bridge neither an address nor firewall rules, and what routers in containers send passes. It is removed by
name: by id Podman removes a network that is in use. A container is killed before it is removed: else Podman
waits 10 s for those that ignore its signal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from testbed.engine.api import EngineError, EngineFacts, NetworkSpec, NotFoundError
from testbed.engine.docker import DockerEngine
from testbed.engine.translate import errors, raise_for_status


def is_podman(version: Mapping[str, Any]) -> bool:
    """Say whether it is Podman that answers `GET /version` so."""
    return any(one.get("Name") == "Podman Engine" for one in version.get("Components") or ())


class PodmanEngine(DockerEngine):
    """The calls of `api.Engine` and `image.Builder`; safe to share between threads."""

    def facts(self) -> EngineFacts:
        """Say what engine this is."""
        return replace(super().facts(), name="Podman")

    def create_network(self, spec: NetworkSpec) -> str:
        """Create a bridge that is a plain wire."""
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
