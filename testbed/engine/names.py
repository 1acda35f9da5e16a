"""What things are called in the engine, and the labels that say what belongs to which lab.

Labels are the only record of a lab: `status` and `down` need nothing else.
"""

from __future__ import annotations

import re
from typing import Final

from testbed.errors import UsageError

PREFIX: Final = "testbed"
LONGEST_LAB_NAME: Final = 40
_LAB_NAME: Final = re.compile(r"[a-z][a-z0-9]*([.-][a-z0-9]+)*")

# Containers and networks
LAB: Final = "org.testbed.lab"  # the lab's name
TOPOLOGY: Final = "org.testbed.topology"  # the name of the topology it was brought up from
SPEC: Final = "org.testbed.spec"  # hash of all that makes the object what it is
RUN: Final = "org.testbed.run"  # which `up` made it
FACTS: Final = "org.testbed.facts"  # JSON for `status`: links of a node, subnet of a network
CHOICES: Final = "org.testbed.choices"  # JSON: what `up` was given when a container was made

# Containers
NODE: Final = "org.testbed.node"
ROLES: Final = "org.testbed.roles"  # separated by spaces
FILES: Final = "org.testbed.files"  # JSON: path → hash of each file the node was made with
ENDPOINTS: Final = "org.testbed.endpoints"  # JSON: network → the throwaway address there
SECRETS: Final = "org.testbed.secrets"  # JSON; whoever may read labels may also read the node's files

# Networks
NETWORK: Final = "org.testbed.network"


def container_name(lab: str, node: str) -> str:
    """Return the name of a node's container."""
    return f"{PREFIX}-{lab}-{node}"


def network_name(lab: str, network: str) -> str:
    """Return the name of a network in the engine."""
    return f"{PREFIX}-{lab}-{network}"


def check_lab_name(name: str) -> str:
    """Return `name` if a lab may be called that, else raise `UsageError`."""
    if _LAB_NAME.fullmatch(name) and len(name) <= LONGEST_LAB_NAME:
        return name
    raise UsageError(
        f"a lab cannot be called {name!r}",
        hint=f"small letters and digits, single - or . between them, at most {LONGEST_LAB_NAME} characters",
    )
