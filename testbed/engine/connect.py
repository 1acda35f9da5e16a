"""Reach the container engine: Docker Engine or Podman, on this machine or another."""

from __future__ import annotations

import socket
from typing import Any, Final

import docker
import requests
from docker.errors import DockerException
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection

from testbed.engine.api import EngineError
from testbed.engine.docker import DockerEngine
from testbed.engine.place import DEFAULT_CONTEXT, DOCKER_HOST, Place, choose_place
from testbed.engine.podman import PodmanEngine, is_podman
from testbed.engine.ssh import SshTunnel

_CALL_TIMEOUT: Final = 120  # seconds for one answer; a loaded engine removes networks one after the other
_CONNECT_TIMEOUT: Final = 10  # seconds in which another machine has to take a connection
_SILENCE: Final = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 6, "TCP_USER_TIMEOUT": 45_000}
"""A connection on which nothing came for 45 s is lost: a log that is followed would wait for ever."""
_CONNECTIONS: Final = 64  # kept open; more are made when more threads call, and not kept

_NOBODY: Final = ("FileNotFoundError", "Connection refused", "ConnectTimeoutError", "No route to host")
"""What the SDK's errors say where nothing is at an address: more of their words would help nobody."""


class _Client(docker.APIClient):
    """The SDK's client, which believes the engine's certificate authority whatever the environment says."""

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """Without this, REQUESTS_CA_BUNDLE overrides the authority that DOCKER_CERT_PATH or a context has."""
        verify = self.verify if verify is None else verify
        return super().merge_environment_settings(url, proxies, stream, verify, cert)


class _Adapter(HTTPAdapter):
    """Keeps connections, and notices where the other machine has gone."""

    def init_poolmanager(self, *args: Any, **settings: Any) -> None:
        """Ask the kernel to try connections that are silent, where it can."""
        options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
        options += [
            (socket.IPPROTO_TCP, getattr(socket, name), value)
            for name, value in _SILENCE.items()
            if hasattr(socket, name)
        ]
        super().init_poolmanager(
            *args, **settings, socket_options=HTTPConnection.default_socket_options + options
        )


def connect(place: Place | None = None) -> DockerEngine:
    """Reach an engine; without `place` the one that `choose_place` names.

    Raises `EngineError` with what to do when none answers.
    """
    place = place or choose_place()
    tunnel = SshTunnel(place.address) if place.address.startswith("ssh://") else None
    address = f"unix://{tunnel.socket}" if tunnel else place.address
    local = address.startswith("unix://")
    timeout: Any = _CALL_TIMEOUT if local else (_CONNECT_TIMEOUT, _CALL_TIMEOUT)  # as requests has it
    try:
        api = _Client(
            base_url=address,
            tls=place.tls,
            version="auto",
            timeout=timeout,
            num_pools=1,
            max_pool_size=_CONNECTIONS,
        )
        for scheme in ("http://", "https://"):  # the SDK keeps so many connections to a local socket alone
            if scheme in api.adapters:
                api.mount(scheme, _Adapter(pool_connections=1, pool_maxsize=_CONNECTIONS))
        kind = PodmanEngine if is_podman(api.version()) else DockerEngine
    except (DockerException, requests.RequestException) as error:
        complaint = tunnel.close() if tunnel else ""
        raise EngineError(
            f"no container engine answers at {place.address}",
            hint=_reach_hint(place, complaint or str(error)),
        ) from error
    return kind(api, place.address, tunnel)


def _reach_hint(place: Place, reason: str) -> str:
    if "Permission denied" in reason and not place.address.startswith("ssh://"):
        return "this user may not use it: sudo usermod -aG docker $USER, then log in again; or use sudo"
    unreachable = any(words in reason for words in _NOBODY)
    if place.chosen_by is None:
        return "testbed doctor says how to get one" if unreachable else reason
    why = "" if unreachable else f" ({reason})"
    if place.chosen_by.startswith("--"):
        return f"{place.chosen_by} says so{why}"
    if place.chosen_by == DOCKER_HOST:
        return f"{DOCKER_HOST} says so{why}; unset it to use the engine of this machine"
    return f"{place.chosen_by} says so{why}; --context {DEFAULT_CONTEXT} chooses the engine of this machine"
