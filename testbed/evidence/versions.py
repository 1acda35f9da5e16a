"""versions.json: with what the evidence was made."""

from __future__ import annotations

from pydantic import Field

from testbed.evidence.record import Record, Versioned
from testbed.evidence.verdicts import LabFacts


class EngineFacts(Record):
    """The container engine."""

    name: str = "engine"
    """Its name."""
    version: str = ""
    """Its version."""
    api: str = ""
    """The version of its interface that was used."""
    kernel: str = ""
    """The kernel it runs on."""
    host: str = ""
    """The name of the machine it runs on."""


class Machine(Record):
    """The machine that nodes ran on."""

    cpu: str = ""
    """The model of its processors, as the kernel has it; empty where that does not say."""
    cpus: int = 0
    """How many processors it has."""
    load: float
    """Its load (processes that run or wait, mean of a minute) before the first run."""


class Versions(Versioned):
    """versions.json."""

    testbed: str = ""
    """The version of the testbed that wrote the evidence."""
    finished: str = ""
    """When the experiment ended, as ISO 8601 with a time zone."""
    engine: EngineFacts = EngineFacts()
    """The container engine that ran the labs."""
    keys: bool = False
    """Whether the folder holds keys of labs: in rendered/, and of sessions in wireshark/ of each run. Every
    lab has keys of its own, which nothing uses after it.
    """
    image: str = ""
    """The image of the nodes."""
    image_id: str = ""
    """The digest by which the engine knows that image: `sha256:…`."""
    machine: Machine | None = None
    """The machine that the nodes ran on; null where that is not known."""
    programs: dict[str, str] = Field(default_factory=dict)
    """Package → version, in the nodes."""
    backends: dict[str, LabFacts] = Field(default_factory=dict)
    """Lab → where it came from and what carried packets in it."""
