"""What a mobile node's shell is to use: which way packets go (RFC 5944 §4.2.1, §4.6, RFC 3024 §5.2)."""

from __future__ import annotations

from dataclasses import replace

from testbed.mobileip.core.api import TunnelEnd
from testbed.mobileip.core.encapsulations import IN_UDP, agreed
from testbed.mobileip.core.keepalive import Keepalives
from testbed.mobileip.core.mobile.config import MobileNodeConfig
from testbed.mobileip.core.mobile.effects import UseCoLocated, UseForeignAgent, UseHome, UseNothing
from testbed.mobileip.core.mobile.former import FormerBindings
from testbed.mobileip.core.mobile.home_agents import HomeAgents
from testbed.mobileip.core.mobile.path import Path, Sent
from testbed.mobileip.core.outbox import Outbox
from testbed.mobileip.core.udp_tunnel import answered
from testbed.mobileip.wire.registration_reply import RegistrationReply

Use = UseCoLocated | UseForeignAgent | UseHome | UseNothing


class Usage:
    """Reports to the shell what to use whenever that changes."""

    def __init__(
        self,
        config: MobileNodeConfig,
        home_agents: HomeAgents,
        former: FormerBindings,
        out: Outbox,
        keepalives: Keepalives,
    ) -> None:
        self.tunnel: TunnelEnd | None = None
        """The home agent's, of the tunnel to this node that is in use."""
        self._reverse_tunnel, self._broadcasts = config.reverse_tunnel, config.broadcasts
        self._port = config.port
        self._home_agents = home_agents
        self._former = former
        self._out = out
        self._keepalives = keepalives
        self._agent: TunnelEnd | None = None  # where delivery is encapsulating
        self._use: Use | None = UseNothing()  # what the shell got last; None: report it again

    def use(self, use: Use) -> None:
        """Tell the shell which way packets go, unless it knows."""
        if use != self._use:
            self._use = use
            self._out.add(use)

    def tell_again(self) -> None:
        """Report to the shell next time even what it knows: the link may have lost it."""
        if self._use != UseNothing():
            self._use = None

    def accepted(self, sent: Sent, reply: RegistrationReply, agent: TunnelEnd | None, now: float) -> None:
        """Use what a reply has granted; `agent` is the end of the tunnel of encapsulating delivery."""
        path, self._agent = sent.path, agent
        if path.mode == "co-located":
            self._co_located(sent, reply, now)
        elif path.agent is not None and path.agent_link_address is not None:
            self.agent(path, registered=True)

    def agent(self, path: Path, registered: bool) -> None:
        """Use the foreign agent of `path`."""
        assert path.agent is not None
        assert path.agent_link_address is not None
        tunnel = self._agent if registered else None
        nested = registered and (self._broadcasts or tunnel is not None)
        self.tunnel = None
        self.use(
            UseForeignAgent(
                path.interface,
                path.agent,
                path.agent_link_address,
                registered,
                self._home_agents.current if nested else None,
                self._former.tunnels,
                tunnel,
                path.local if tunnel is not None else (),
            )
        )

    def _co_located(self, sent: Sent, reply: RegistrationReply, now: float) -> None:
        path, end = sent.path, TunnelEnd(reply.home_agent, agreed(sent.flags))
        # RFC 3519 §3.1.1: without an assenting answer to what was asked there is no tunnel in UDP.
        answer = answered(reply, to_agent=False) if sent.udp_tunnel else None
        in_udp = answer is not None and answer.assents
        interval = 0.0
        if answer is not None and in_udp:
            end = TunnelEnd(reply.home_agent, IN_UDP[sent.udp_tunnel], self._port)
            ends = (path.source, reply.home_agent, path.interface)
            interval = self._keepalives.keep(
                reply.home_address, ends, answer.keepalive, sent.at, sent.udp_tunnel
            )
            if path.agent is not None:
                self._keepalives.probe(reply.home_address, now)
        else:
            self._keepalives.clear()
        self.tunnel = end
        reverse, former = self._reverse_tunnel or in_udp, self._former.tunnels
        self.use(UseCoLocated(path.interface, path.care_of_address, end, reverse, former))
        if answer is not None and in_udp:
            self._out.event("udp-tunnel", forced=answer.forced, keepalive=interval)

    def former_changed(self) -> None:
        """Tell the shell which former care-of addresses still have tunnels."""
        if isinstance(self._use, UseCoLocated | UseForeignAgent):
            self.use(replace(self._use, former=self._former.tunnels))

    def ended(self, path: Path | None) -> None:
        """Nothing is registered any more; the agent of `path` remains the default router."""
        use = self._use
        if isinstance(use, UseForeignAgent) and path is not None and path.agent == use.agent:
            use = replace(use, registered=False, broadcasts_from=None, former=(), tunnel=None, local=())
            self.use(use)
        elif not isinstance(use, UseHome):
            self.use(UseNothing())
