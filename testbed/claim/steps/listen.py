"""An application that takes what comes."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from testbed.agreed import DISCARD_PORT, RECEIVED
from testbed.claim.action import Action, Actor
from testbed.claim.names import NodeName, Short

_START: Final = f"""\
: >{RECEIVED}
socat -u UDP4-RECV:{DISCARD_PORT} OPEN:{RECEIVED},append >/dev/null 2>&1 &
pid=$!
until ss -Hlun sport = :{DISCARD_PORT} | grep -q .; do
    kill -0 $pid || exit 1
    sleep 0.02
done
echo $pid
"""
_END: Final = "kill {pid} 2>/dev/null || :; rm -f " + RECEIVED


class Listen(Short, Action):
    """A node takes datagrams on the port that `send` sends to, until the end of the run.

    What its kernel, its firewall and its IPsec policy discard never gets there. `received` counts what did.
    """

    word = "listen"
    title = "A node takes the datagrams that `send` makes up"
    order = 96

    SHORT = "node"
    node: NodeName = Field(description="The node")

    def act(self, lab: Actor) -> str:
        """Start socat, which keeps what it gets in a file."""
        pid = lab.shell(self.node, _START).text.strip()
        lab.at_end(f"listen {self.node}", lambda: lab.shell(self.node, _END.format(pid=pid)))
        return f"on port {DISCARD_PORT}"
