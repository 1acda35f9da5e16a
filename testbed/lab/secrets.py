"""The secrets of a lab: made once, kept in labels of its containers, so that a changed node fits in."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable

from testbed.engine import names
from testbed.engine.api import Container
from testbed.render import Secrets


def lab_secrets(containers: Iterable[Container]) -> Secrets:
    """Return the secrets that a lab's containers carry, or new ones where there are none."""
    for container in containers:
        if text := container.labels.get(names.SECRETS):
            return Secrets(**json.loads(text))
    return Secrets(ike_psk=secrets.token_hex(32), mobility_key=secrets.token_hex(16))


def secrets_label(values: Secrets) -> str:
    """Return the label's text."""
    return json.dumps({"ike_psk": values.ike_psk, "mobility_key": values.mobility_key})
