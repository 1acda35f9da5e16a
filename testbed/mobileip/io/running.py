"""What every daemon takes of its node, in order, and gives back at the end.

A daemon first claims what is its alone in the node, its UDP port too, and only then changes anything: so one
that cannot start leaves the others as they are.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.mobileip.io.bpf import Instruction
from testbed.mobileip.io.daemon_toml import Settings
from testbed.mobileip.io.instance import Claims
from testbed.mobileip.io.journal import Journal
from testbed.mobileip.io.netlink import Netlink
from testbed.mobileip.io.role import Role
from testbed.mobileip.io.shell import Command, Shell
from testbed.mobileip.io.steering import Share, Steering
from testbed.mobileip.io.store import Store
from testbed.mobileip.io.udp import Place, RegistrationSocket, share_out
from testbed.mobileip.tunnel.api import DataPlane, Side
from testbed.mobileip.tunnel.probe import probe

if TYPE_CHECKING:
    from testbed.mobileip.core.foreign_agent import ForeignAgent
    from testbed.mobileip.core.home_agent import HomeAgent
    from testbed.mobileip.io.shards import Part

LONG_LIVED = 200_000
"""New objects after which Python looks for garbage in cycles: what some 30,000 bindings are made of.

By default it looks after 2000, and so time and again through bindings, which stay.
"""


class Daemon:
    """What every daemon has of its node, in the order it takes it, until the block ends.

    Everything raises NodeError or PlaneError.
    """

    def __init__(self, settings: Settings[Any], control: Path | None, part: Part | None = None) -> None:
        """`part` is what a process of a daemon that has several is given; its parent has claimed the rest."""
        self.settings = settings
        self.instance = settings.instance
        self.control = control or settings.control
        self.state = settings.state or (self.control and self.control.with_suffix(".state"))
        self._part = part
        self._stack = ExitStack()
        self._claims = Claims()

    def __enter__(self) -> Daemon:
        self._stack.enter_context(closing(self._claims))
        if self._part is None:
            self._claims.take(self.instance.claims.items())
        if self._part is None and self.control is not None:
            self._claims.take([(f"the control socket {self.control}", "control")])
        self.netlink = self._stack.enter_context(closing(Netlink(self.instance.protocol)))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def claim(self, what: str, key: str) -> None:
        """Claim something more."""
        self._claims.take([(what, key)])

    @property
    def share(self) -> Share | None:
        """The mobile nodes of this process; None: all."""
        return None if self._part is None else self._part.share

    @property
    def journal(self) -> Journal:
        """What reports events."""
        return Journal(self.instance.name, *(() if self._part is None else (self._part.events,)))

    def listen(
        self, places: Sequence[Place], program: Sequence[Instruction], departures: bool = False
    ) -> list[RegistrationSocket]:
        """Open the UDP sockets: at `places`, or where the port is shared with nobody at every address."""
        sockets = []
        for place in self._alone(places):
            if self.instance.shares_port:
                self.claim(str(place), "address")
            sockets.append(RegistrationSocket(place, program, departures))
            self._stack.callback(sockets[-1].close)
        return sockets

    def listen_together(
        self, places: Sequence[Place], program: Sequence[Instruction], steering: Steering
    ) -> list[list[RegistrationSocket]]:
        """Open the UDP sockets of several processes, those of each place together."""
        groups = []
        for place in self._alone(places):
            self.claim(str(place), "address")
            groups.append(share_out(place, steering, program))
            for each in groups[-1]:
                self._stack.callback(each.close)
        return groups

    def _alone(self, places: Sequence[Place]) -> Sequence[Place]:
        if self.instance.shares_port:
            return places
        return [Place(port) for port in dict.fromkeys(place.port for place in places)]

    def plane(self, side: Side) -> DataPlane:
        """The data plane."""
        plane = probe(
            side,
            self.netlink,
            self.instance.devices,
            ipsec_here=self.settings.ipsec_here,
            merges_segments=self.settings.merges_segments,
            share=self.share,
        )
        return self._stack.enter_context(closing(plane))

    def run(self, shell: Shell, role: Role, commands: Mapping[str, Command]) -> None:
        """Run until a signal; what the role sets up is removed whatever happens."""
        self._stack.callback(shell.close)
        if self._part is not None:
            shell.serve_parent(self._part.link, commands)
        elif self.control is not None:
            shell.serve(self.control, commands)
        self._stack.callback(role.stop)
        role.start()
        gc.freeze()  # what is there now stays, and is not looked through again
        gc.set_threshold(LONG_LIVED)
        gc.enable()
        shell.run()

    def run_agent(
        self, shell: Shell, role: Role, core: HomeAgent | ForeignAgent, commands: Mapping[str, Command]
    ) -> None:
        """Run an agent, which keeps what must outlive it in the file of its state."""
        if self.state is not None:
            store = self._stack.enter_context(closing(Store(self.state)))
            shell.keep(store, core.restore)
        self.run(shell, role, {"flush": lambda _, now: core.flush(), **commands})

    def claim_state(self) -> Path | None:
        """Claim the file of the state, where there is one."""
        if self.state is not None:
            self.claim(f"the state file {self.state}", "state")
        return self.state
