"""Services that one machine runs."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from pydantic import Field
from typing_extensions import TypedDict

from testbed.claim.names import NodeName, Several
from testbed.claim.seen import Seen
from testbed.claim.sight import Decision, Looker, Sight
from testbed.errors import StepError


class _Service(TypedDict):
    name: str
    state: str | None
    pid: int | None


class _Running(TypedDict):
    container: str
    services: list[_Service]


class Daemons(Seen):
    """Services that run on one node, so all on one machine."""

    word = "daemons"
    title = "Services that run on one node"
    order = 110
    TOO_LITTLE: ClassVar[float | None] = None
    SEEN: ClassVar[Any] = _Running

    node: NodeName = Field(description="The node")
    running: Several = Field(min_length=1, description="The services that must be up, such as charon")

    def phrase(self) -> str:
        """What is expected, as a line."""
        return f"{' and '.join(self.running)} run on {self.node}"

    def look(self, lab: Looker) -> Any:
        """Ask the supervisor; a service that it does not know of has no `state`."""
        done = lab.execute(self.node, ["sh", "-c", "sv status /etc/testbed/services/*"])
        lines = re.findall(r"^(\w+): \S*/([^/\s]+): (?:\(pid (\d+)\))?", done.text, re.MULTILINE)
        services = [
            {
                "name": name,
                "state": word if word in ("run", "down", "finish") else None,
                "pid": int(pid) if pid else None,
            }
            for word, name, pid in lines
        ]
        # Its exit code is how many services are not up, which may be others; from 100 on it did not look.
        if done.code >= 100 or not any(one["state"] for one in services):
            raise StepError(f"{self.node} does not report what it runs: {done.complaint}")
        return {"container": lab.container(self.node)[:12], "services": services}

    def judge(self, sight: Sight) -> Decision:
        """Find each of them among those that run."""
        services = sight.seen["services"]
        told = {one["name"]: one["state"] for one in services if one["state"]}
        running = ", ".join(f"{one['name']} (pid {one['pid']})" for one in services if one["state"] == "run")
        text = f"container {sight.seen['container']} runs {running or 'no service'}"
        untold = [one["name"] for one in services if one["name"] in self.running and one["name"] not in told]
        missing = [name for name in self.running if told.get(name) != "run" and name not in untold]
        text += f", not {' nor '.join(missing)}" if missing else ""
        text += f", and does not report on {' and '.join(untold)}" if untold else ""
        return Decision(False if missing else None if untold else True, text)
