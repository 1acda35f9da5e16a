"""Which engine is meant: the one that the `docker` command would use.

Contexts are read here. The SDK's own reader looks for them in the current folder where docker has no
config.json, and ignores the certificates of a context without a client's.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from docker.errors import DockerException
from docker.tls import TLSConfig
from docker.utils import kwargs_from_env

from testbed.engine.api import EngineError

USUAL: Final = "unix:///var/run/docker.sock"
DEFAULT_CONTEXT: Final = "default"
DOCKER_HOST: Final = "DOCKER_HOST"


@dataclass(frozen=True, slots=True)
class Place:
    """Where an engine is to be reached."""

    address: str  # unix://, tcp:// or ssh://
    tls: TLSConfig | bool = False
    chosen_by: str | None = None  # what names it: "DOCKER_HOST", "the docker context lab"; None: nothing does


def context_names() -> list[str]:
    """The names of docker's contexts that can be read."""
    names = {DEFAULT_CONTEXT}
    for file in (_folder() / "contexts" / "meta").glob("*/meta.json"):
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            names.add(str(json.loads(file.read_text("utf-8"))["Name"]))
    return sorted(names)


def choose_place() -> Place:
    """DOCKER_HOST, else the context that DOCKER_CONTEXT names, else docker's current context, else `USUAL`.

    Raises `EngineError` where a context is named that does not exist, or certificates are missing.
    """
    if address := os.environ.get(DOCKER_HOST):
        return _at(address, DOCKER_HOST)
    folder = _folder()
    name = os.environ.get("DOCKER_CONTEXT") or _current_context(folder)
    return Place(USUAL) if name == DEFAULT_CONTEXT else _of_context(folder / "contexts", name)


def named_place(text: str, chosen_by: str) -> Place:
    """The engine at an address, else that of a docker context. Raises `EngineError` as `choose_place`."""
    if "://" in text:
        return _at(text, chosen_by)
    found = Place(USUAL) if text == DEFAULT_CONTEXT else _of_context(_folder() / "contexts", text)
    return replace(found, chosen_by=chosen_by)


def _at(address: str, chosen_by: str) -> Place:
    """An address, with the certificates that DOCKER_TLS_VERIFY and DOCKER_CERT_PATH name."""
    try:
        settings = kwargs_from_env(environment={**os.environ, DOCKER_HOST: address})
    except DockerException as error:
        raise EngineError(
            f"{chosen_by} cannot be used: {error}", hint="set DOCKER_CERT_PATH to the folder of its keys"
        ) from error
    return Place(settings["base_url"], settings.get("tls", False), chosen_by)


def _folder() -> Path:
    return Path(os.environ.get("DOCKER_CONFIG") or "~/.docker").expanduser()


def _current_context(folder: Path) -> str:
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except FileNotFoundError:
        return DEFAULT_CONTEXT
    except (OSError, ValueError) as error:
        raise EngineError(f"{folder / 'config.json'} cannot be read: {error}") from error
    name = config.get("currentContext") if isinstance(config, dict) else None
    return str(name or DEFAULT_CONTEXT)


def _of_context(folder: Path, name: str) -> Place:
    key = sha256(name.encode()).hexdigest()
    try:
        meta: Any = json.loads((folder / "meta" / key / "meta.json").read_text("utf-8"))
        endpoint = meta["Endpoints"]["docker"]
        address = str(endpoint["Host"])
    except FileNotFoundError as error:
        raise EngineError(
            f"there is no docker context {name}", hint="docker context ls lists those that there are"
        ) from error
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise EngineError(f"the docker context {name} cannot be read: {error!r}") from error
    return Place(
        address,
        _tls(folder / "tls" / key / "docker", bool(endpoint.get("SkipTLSVerify"))),
        f"the docker context {name}",
    )


def _tls(folder: Path, unverified: bool) -> TLSConfig | bool:
    """How a context authenticates; False where it has no certificates."""
    if not folder.is_dir():
        return False
    authority, certificate, key = (
        str(path) if (path := folder / name).exists() else None for name in ("ca.pem", "cert.pem", "key.pem")
    )
    own = (certificate, key) if certificate and key else None
    return TLSConfig(client_cert=own, ca_cert=authority, verify=not unverified)
