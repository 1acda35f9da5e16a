"""The claims of topology files as pytest's items."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.errors import TestbedError
from testbed.evidence.folder import RunFolder, run_path
from testbed.evidence.verdicts import Claim
from testbed.pytest_plugin.failures import ladder_section
from testbed.pytest_plugin.state import session_of
from testbed.pytest_plugin.verifying import verify_claim
from testbed.topology.load import load_topology
from testbed.topology.loaded import LoadedTopology


class NotReproduced(TestbedError):
    """A claim that was refuted, or that could not be decided."""


class ClaimsFile(pytest.File):
    """A topology file that makes claims."""

    def collect(self) -> Iterator[pytest.Item]:
        """An item for each claim, by its name."""
        try:
            topology = load_topology(str(self.path))
        except TestbedError as error:
            raise self.CollectError(str(error)) from None
        if not topology.topology.claims:
            raise self.CollectError(f"{self.path}: {topology.name} makes no claims")
        for name in topology.topology.claims:
            yield ClaimItem.from_parent(self, name=name, topology=topology)


class ClaimItem(pytest.Item):
    """A claim: it passes where it is reproduced."""

    def __init__(self, *, topology: LoadedTopology, **more: Any) -> None:
        super().__init__(**more)
        self.topology = topology
        self.add_marker("testbed_claim")

    def runtest(self) -> None:
        """Decide it. Raises `NotReproduced`."""
        session = session_of(self.config)
        folder = session.evidence(self.nodeid)
        decided = verify_claim(self.topology, self.name, session.reached().lend, folder)
        self.user_properties += [("verdict", decided.verdict), ("evidence", str(folder))]
        if decided.verdict != "reproduced":
            last = folder / run_path(self.name, "run")
            if RunFolder(last).record:
                self.add_report_section("call", *ladder_section(last, self.topology))
            raise NotReproduced("\n".join(_words(decided, self.path, folder)))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The message alone, where there is one for people."""
        if isinstance(excinfo.value, TestbedError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where the claim is written."""
        line = self.topology.source("claims", self.name).line
        return self.path, None if line is None else line - 1, self.name


def _words(claim: Claim, file: Path, folder: Path) -> Iterator[str]:
    yield f"{claim.id} is {claim.verdict}: {claim.reason}"
    yield f"  {claim.says} ({claim.source})"
    for one in claim.evidence:
        if one.held is not True:
            found = "undecided" if one.held is None else "not so"
            yield f"  {one.run}: {one.expectation}: {found}: {one.observed}"
    yield f"  hint: {shlex.join(['testbed', 'explain', claim.id, str(file), '--evidence', str(folder)])}"
