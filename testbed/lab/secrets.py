"""The secrets of a lab: made once, kept in files of the nodes that use them, so that a changed node fits in.

No label holds them: everybody who may list containers reads labels. A node holds those it uses and no others.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict

from testbed.engine import names
from testbed.engine.api import Container, Engine, NotFoundError
from testbed.render import RenderedFile, Secrets


def new_secrets() -> Secrets:
    """Return secrets that nothing else has."""
    return Secrets(ike_psk=secrets.token_hex(32), mobility_key=secrets.token_hex(16))


def lab_secrets(engine: Engine, containers: Iterable[Container]) -> Secrets:
    """Return the secrets that a lab's containers hold, running or not, and new ones for what none holds."""
    found = asdict(new_secrets())
    missing = set(found)
    for container in containers:
        if missing.isdisjoint(container.labels.get(names.SECRETS, "").split()):
            continue
        # Somebody may have removed the container or the file: another node has the same.
        with suppress(NotFoundError, ValueError):
            held = json.loads(engine.read_file(container.id, names.SECRETS_FILE))
            found |= {name: str(held[name]) for name in missing & held.keys()}
            missing -= held.keys()
    return Secrets(**found)


def used_secrets(values: Secrets, files: Mapping[str, RenderedFile]) -> dict[str, str]:
    """Return the secrets that these files of a node contain, by name."""
    return {
        name: value
        for name, value in asdict(values).items()
        if any(value in file.content for file in files.values())
    }


def secrets_file(used: Mapping[str, str]) -> RenderedFile:
    """Return the file that holds them."""
    return RenderedFile(json.dumps(used), 0o600)
