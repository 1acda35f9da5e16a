"""The connection manager: one move at a time, requests on the control socket, and its subscribers."""

from __future__ import annotations

import asyncio
import sys
import traceback
from contextlib import suppress
from dataclasses import asdict
from ipaddress import IPv4Address

from testbed.agreed import MOVE_STARTED, READY, ROAM, Op
from testbed.mobileip.io.control import Connection, RequestError
from testbed.mobileip.io.journal import Journal
from testbed.node.roam.attachment import Agent, Attachment, Home
from testbed.node.roam.attempt import Attempt
from testbed.node.roam.detecting import DetectingAttempt
from testbed.node.roam.echo import first_reply
from testbed.node.roam.links import Lease, LinkError
from testbed.node.roam.mobile_ip import Message, MobileIpError
from testbed.node.roam.move import Move, Outcome, State
from testbed.node.roam.node import Node, is_inside, is_without_proof
from testbed.node.roam.roam_toml import Bounds
from testbed.node.roam.vpn import VpnError

START_PATIENCE = 6.0
"""Seconds in which attempts are made at start: the other nodes may come up later than this one."""
START_FACTOR, START_GROWTH = 0.05, 1.3
"""Bounds of the first attempt at start, as part of the ordinary ones, and how they grow with each further."""
START_PAUSE = 0.05
"""Seconds between attempts at start."""
REPAIR_PAUSE = 2.0
"""Seconds after a repair that did not succeed until the next: what broke may take longer to come back."""
_STATES: dict[str, State] = {
    "registered": "registered",
    "at-home": "at-home",
    "registration-expired": "unregistered",
}
"""What an event of the Mobile IP daemon says about where the mobile node stands."""


class Manager:
    """Moves the mobile node from network to network."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._state: State = "unregistered"
        self._move: Move | None = None
        self._task: asyncio.Task[None] | None = None
        self._broken: str | None = None
        self._renewing: asyncio.Task[None] | None = None
        self.journal = Journal(ROAM)

    async def run(self) -> None:
        """Serve for ever; the supervisor gets `ready` when the first attachment has settled."""
        node = self._node
        node.links.reset(node.config.trusted)
        if node.config.roaming or (node.vpn is not None and node.vpn.follows):
            node.links.keep_ike_outside()
        node.dhcp.watch(self._lease_lost)
        if node.monitor is not None:
            node.monitor.watch(self._overdue)
        with node.mobile_ip.listening(self._heard):
            async with asyncio.TaskGroup() as group:
                group.create_task(node.mobile_ip.run(lambda: self._repair("the Mobile IP daemon restarted")))
                if node.outer is not None:
                    restarted = "the Mobile IP daemon for outside restarted"
                    group.create_task(node.outer.run(lambda: self._repair(restarted)))
                if node.vpn is not None:
                    await node.vpn.destroy()
                    group.create_task(node.vpn.run(self._tunnel_lost))
                if node.config.attach is not None:
                    await asyncio.wait({self._begin(node.config.attach, "start", patience=START_PATIENCE)})
                self.journal.tell(READY)

    # What the control socket asks for.

    async def handle(self, request: dict[str, object], client: Connection) -> dict[str, object]:
        """Answer one request; after `move`, `ipsec` and `repair` the events of the move follow it."""
        match request["op"]:
            case Op.STATE:
                return self._picture()
            case Op.MOVE:
                return await self._start_move(request.get("network"), client)
            case Op.IPSEC:
                return await self._switch_ipsec(request.get("action"), client)
            case Op.REPAIR:
                return await self._again("repair", self._node.ipsec, client)
            case Op.FORGET:
                return await self._forget()
            case other:
                raise RequestError(
                    f"unknown op {other!r}; expected move, state, subscribe, ipsec, repair or forget"
                )

    async def _start_move(self, network: object, client: Connection) -> dict[str, object]:
        networks = self._node.config.trusted
        if not isinstance(network, str) or network not in networks:
            raise RequestError(f"unknown network {network!r}; expected one of {', '.join(networks)}")
        await self._cancel()
        self._begin(network, "move", client)
        return {"network": network}

    async def _switch_ipsec(self, action: object, client: Connection) -> dict[str, object]:
        if self._node.vpn is None:
            raise RequestError("this node has no IPsec in its stack")
        if action not in ("up", "down"):
            raise RequestError(f"action: expected up or down, got {action!r}")
        return await self._again(f"ipsec {action}", action == "up", client)

    async def _again(self, reason: str, ipsec: bool, client: Connection) -> dict[str, object]:
        """Keep link and address; negotiate IPsec and register anew, whatever the peers still know of it."""
        node = self._node
        if node.network is None:
            raise RequestError("not attached to any network")
        await self._cancel()
        node.ipsec = ipsec
        if node.vpn is not None:
            await node.vpn.destroy()
        self._begin(node.network, reason, client, fresh=False)
        return {"network": node.network}

    async def _forget(self) -> dict[str, object]:
        """Be registered nowhere, with no security association and nothing to repair; the link stays."""
        node = self._node
        await self._cancel()
        self._move, self._state = None, "unregistered"
        if node.vpn is not None:
            await node.vpn.destroy()
        try:
            node.links.use_inner(None)
            await node.mobile_ip.request("detach")
        except (LinkError, MobileIpError) as error:
            raise RequestError(str(error)) from error
        return {}

    def _picture(self) -> dict[str, object]:
        node, move = self._node, self._move
        attachment, tunnel = node.attachment, node.vpn.tunnel if node.vpn else None
        ipsec = node.config.ipsec
        return {
            "stack": node.config.stack,
            "network": node.network,
            "networks": {name: {"trusted": trusted} for name, trusted in node.config.trusted.items()},
            "state": self._state,
            "detail": move.outcome.detail if move and move.outcome else None,
            "moving": move is not None and move.outcome is None,
            "how": _how(attachment),
            "address": str(attachment.address) if isinstance(attachment, Lease) else None,
            "agent": attachment.address if isinstance(attachment, Agent) else None,
            "home_address": str(node.config.home_address),
            "ipsec": {
                "enabled": node.ipsec,
                "up": tunnel is not None,
                "inner": str(tunnel.inner) if tunnel and tunnel.inner else None,
            },
            "inside": node.monitor is not None and node.monitor.inside,
            "mobile_ip": node.mobile_ip.connected,
            "timeline": dict(move.timeline) if move else None,
            "gateway": ipsec.remote_id if ipsec else None,
            "bounds": asdict(node.config.bounds),
        }

    # Telling.

    def _tell(self, name: str, fields: dict[str, object]) -> None:
        followers = self._move.followers if self._move else []
        self.journal.tell(name, fields, also=[client.send for client in followers])

    def _heard(self, message: Message) -> None:
        """Between moves, follow the Mobile IP daemon: registrations expire, and succeed late."""
        self._node.heard(message)
        if message["event"] == "detected":
            self._detected(message)
        state = _STATES.get(str(message["event"]))
        if state is None or state == self._state or self._move is None or self._move.outcome is None:
            return
        self._state = state
        self._move.tell("state", state=state)

    def _detected(self, message: Message) -> None:
        """The home agent inside has answered over the network itself, after what seemed to be outside."""
        node, move = self._node, self._move
        settled = move is not None and move.outcome is not None  # else the move under way hears it
        if settled and node.network is not None and is_inside(message, node.network):
            node.inside = node.network
            self._begin(node.network, "the home agent inside has answered", fresh=False)
        elif is_without_proof(message):
            # It tunnels to this network now, in clear: at once through the VPN as before.
            self._renewing = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        with suppress(MobileIpError):  # nothing has been registered
            await self._node.mobile_ip.request("renew")

    # Moves, one at a time.

    def _begin(
        self,
        network: str,
        reason: str,
        follower: Connection | None = None,
        patience: float = 0.0,
        fresh: bool = True,
    ) -> asyncio.Task[None]:
        self._move = move = Move(network, self._node.config.stack, self._tell)
        if follower is not None:
            move.followers.append(follower)
            follower.hold()
        self._task = asyncio.create_task(self._carry(move, reason, patience, fresh))
        return self._task

    async def _cancel(self) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def _repair(self, reason: str) -> None:
        """Something underneath broke: do on the present network what is to be done again."""
        if self._node.network is None or self._move is None:
            return
        if self._move.outcome is None:
            self._broken = reason  # not under the feet of the move
            return
        repair = self._begin(self._node.network, reason, fresh=False)
        move, loop = self._move, asyncio.get_running_loop()

        def unless_mended() -> None:
            if self._move is move and not self._works(move):
                self._repair(reason)

        repair.add_done_callback(lambda _: loop.call_later(REPAIR_PAUSE, unless_mended))

    def _works(self, move: Move) -> bool:
        """Whether the last move has reached all, or what it lacked has come later."""
        node = self._node
        tunnelled = node.vpn is not None and node.ipsec and not node.trusts(move.network)
        late = self._state != "unregistered" and not (tunnelled and node.vpn and node.vpn.tunnel is None)
        return late or (move.outcome is not None and move.outcome.complete)

    def _tunnel_lost(self) -> None:
        """Inside, what is kept for later is not missed."""
        node = self._node
        keeps = node.outer is not None or (node.vpn is not None and node.vpn.follows)
        if not (keeps and node.network is not None and node.trusts(node.network)):
            self._repair("the IPsec tunnel was lost")

    def _lease_lost(self) -> None:
        try:
            self._node.links.drop_lease()
        except LinkError as error:  # whoever calls has nobody to hand it to; the repair says what lacks
            print(f"roam: {error}", file=sys.stderr)
        self._node.attachment = None
        self._repair("the DHCP lease was lost")

    def _overdue(self) -> None:
        """The home agent inside is silent: find out anew where this is (RFC 5265 §3.3).

        The link that is up need not be the one that was joined last.
        """
        node, move = self._node, self._move
        assert node.network is not None
        self._tell("overdue", {"network": node.network})
        if move is None or move.outcome is None:
            return  # the move under way finds it out
        up = [name for name in (node.network, *node.config.trusted) if self._is_up(name)]
        self._begin(next(iter(up), node.network), "a registration inside is overdue")

    def _is_up(self, network: str) -> bool:
        """Whether a link is joined; False for a link that is gone."""
        try:
            return self._node.links.is_up(network)
        except LinkError as error:
            print(f"roam: {error}", file=sys.stderr)
            return False

    async def _carry(self, move: Move, reason: str, patience: float, fresh: bool) -> None:
        outcome = Outcome("unregistered", "superseded")
        self._broken = None
        try:
            move.tell(MOVE_STARTED, reason=reason)
            outcome = await self._attempts(move, patience, fresh)
            probe = self._node.config.probe
            if outcome.complete and probe is not None:
                outcome = await self._first_data(move, outcome, probe)
            if self._broken is not None:
                asyncio.get_running_loop().call_soon(self._repair, self._broken)
        finally:
            self._state = outcome.state
            move.settle(outcome)
            for client in move.followers:
                client.release()

    async def _attempts(self, move: Move, patience: float, fresh: bool) -> Outcome:
        bounds = self._node.config.bounds
        if not patience:
            return await self._attempt(move, bounds, fresh, patient=False)
        loop = asyncio.get_running_loop()
        deadline, factor = loop.time() + patience, START_FACTOR
        while True:
            outcome = await self._attempt(move, bounds.scaled(factor), fresh, patient=True)
            if outcome.complete or loop.time() >= deadline:
                return outcome
            await asyncio.sleep(START_PAUSE)
            fresh, factor = False, min(1.0, factor * START_GROWTH)

    async def _attempt(self, move: Move, bounds: Bounds, fresh: bool, patient: bool) -> Outcome:
        try:
            kind = Attempt if self._node.config.detection is None else DetectingAttempt
            return await kind(self._node, move, bounds, patient).run(fresh)
        except (MobileIpError, VpnError, LinkError) as error:
            return Outcome("unregistered", str(error))
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            return Outcome("unregistered", f"{type(error).__name__}: {error}")

    async def _first_data(self, move: Move, outcome: Outcome, probe: IPv4Address) -> Outcome:
        try:
            async with asyncio.timeout(self._node.config.bounds.data):
                await first_reply(self._node.config.home_address, probe)
        except TimeoutError:
            return Outcome(outcome.state, f"{outcome.detail}; no answer from {probe}")
        move.reached("data", destination=str(probe))
        return outcome


def _how(attachment: Attachment | None) -> str | None:
    match attachment:
        case Lease():
            return "dhcp"
        case Agent():
            return "agent"
        case Home():
            return "home"
    return None
