"""Whether the topology of a run passes the topology check with changes to it."""

from __future__ import annotations

from collections.abc import Sequence

from testbed.claim.expectations import Accepted, Refused
from testbed.errors import ErrorGroup, TopologyError
from testbed.experiment.verdict import Decision
from testbed.topology.load import load_topology
from testbed.topology.loaded import LoadedTopology


def refused(topology: LoadedTopology, part: Refused) -> Decision:
    """Whether it is refused for the reason given."""
    refusal = _refusal(topology, part.set)
    return Decision(part.because in refusal, f"refused: {refusal}" if refusal else "accepted")


def accepted(topology: LoadedTopology, part: Accepted) -> Decision:
    """Whether it is accepted."""
    refusal = _refusal(topology, part.set)
    return Decision(not refusal, f"refused: {refusal}" if refusal else "accepted")


def _refusal(topology: LoadedTopology, changes: Sequence[str]) -> str:
    """Why the topology is refused with these changes; empty if it is accepted.

    Without hints: they name roles and nodes that have nothing to do with it.
    """
    try:
        load_topology(topology.file, sets=(*topology.sets, *changes), templates=topology.templates)
    except ErrorGroup as group:
        return "; ".join(error.message for error in group.errors)
    except TopologyError as error:
        return error.message
    return ""
