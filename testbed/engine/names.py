"""What things are called in the engine, and the labels that say what belongs to which lab.

Labels are the only record of a lab: `status` and `down` need nothing else.
"""

from __future__ import annotations

import os
import pwd
import re
import socket
from fnmatch import fnmatchcase
from typing import Final

from testbed.errors import UsageError

PREFIX: Final = "testbed"
LONGEST_LAB_NAME: Final = 40
_ENGINE_NAME: Final = re.compile(r"[a-z][a-z0-9-]*")
_LAB_NAME: Final = re.compile(r"[a-z][a-z0-9]*([.-][a-z0-9]+)*")

# Containers and networks
LAB: Final = "org.testbed.lab"  # the lab's name
TOPOLOGY: Final = "org.testbed.topology"  # the name of the topology it was brought up from
SPEC: Final = "org.testbed.spec"  # hash of all that makes the object what it is
RUN: Final = "org.testbed.run"  # which `up` made it
OWNER: Final = "org.testbed.owner"  # USER@HOST, whose lab it is
FACTS: Final = "org.testbed.facts"  # JSON for `status`: links of a node, subnet of a network
CHOICES: Final = "org.testbed.choices"  # JSON: what `up` was given when a container was made
SESSION: Final = "org.testbed.session"  # the process (of tests, of a task) it must not outlive; its maker
STUDY: Final = "org.testbed.study"  # the study that it was made for

ENGINES: Final = "org.testbed.engines"  # JSON: name → address, of the engines that its lab is on; absent: one

# Containers
NODE: Final = "org.testbed.node"
ROLES: Final = "org.testbed.roles"  # separated by spaces
FILES: Final = "org.testbed.files"  # JSON: path → hash of each file the node was made with
CPUS: Final = "org.testbed.cpus"  # how many processors it may use; absent: as many as there are
ENDPOINTS: Final = "org.testbed.endpoints"  # JSON: network → the throwaway address there
ENGINE: Final = "org.testbed.engine"  # the name of the engine it is on, where its lab is on several
SECRETS: Final = "org.testbed.secrets"  # names, separated by spaces: those that its file SECRETS_FILE holds

# Networks
NETWORK: Final = "org.testbed.network"
MTU: Final = "org.testbed.mtu"  # of its links, where its lab is on several engines

# Networks of labs on several engines, and the containers that lay their wires
VTEP: Final = "org.testbed.vtep"  # the image of these containers


OWNER_VARIABLE: Final = "TESTBED_OWNER"

SECRETS_FILE: Final = "/etc/testbed/secrets.json"
"""The secrets that a node uses, in its container, for its root alone: nothing else remembers them."""


def owner() -> str:
    """Return the owner of new labs: $TESTBED_OWNER, else USER@HOST; with sudo, the user that called it."""
    if given := os.environ.get(OWNER_VARIABLE):
        return given
    user = os.environ.get("SUDO_USER") if os.geteuid() == 0 else None
    try:
        user = user or pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container's user that has no name
        user = str(os.geteuid())
    return f"{user}@{socket.gethostname()}"


def is_pattern(lab: str) -> bool:
    """Whether it means several labs, as `student-*` does: no lab has such a name."""
    return any(letter in lab for letter in "*?[")


def is_engine_name(name: str) -> bool:
    """Whether one of a lab's engines may be called that."""
    return _ENGINE_NAME.fullmatch(name) is not None


def matches(lab: str, wanted: str | None) -> bool:
    """Whether a lab is meant by a name or pattern; None means every lab."""
    return wanted is None or (fnmatchcase(lab, wanted) if is_pattern(wanted) else lab == wanted)


def container_name(lab: str, node: str) -> str:
    """Return the name of a node's container."""
    return f"{PREFIX}-{lab}-{node}"


def network_name(lab: str, network: str) -> str:
    """Return the name of a network in the engine."""
    return f"{PREFIX}-{lab}-{network}"


def vtep_name(lab: str) -> str:
    """Return the name of the containers that lay the wires of a lab on several engines; no node's is such."""
    return f"{PREFIX}-{lab}_vtep"


def check_lab_name(name: str) -> str:
    """Return `name` if a lab may be called that, else raise `UsageError`."""
    if _LAB_NAME.fullmatch(name) and len(name) <= LONGEST_LAB_NAME:
        return name
    raise UsageError(
        f"a lab cannot be called {name!r}",
        hint=f"small letters and digits, single - or . between them, at most {LONGEST_LAB_NAME} characters",
    )
