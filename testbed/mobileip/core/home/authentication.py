"""How a home agent sees who a request comes from (RFC 5944 §3.8.2.1 a, c and d)."""

from __future__ import annotations

from collections import Counter

from testbed.mobileip.core.api import Datagram
from testbed.mobileip.core.association import Associations, AuthenticationError
from testbed.mobileip.core.disposition import Deny, Discard
from testbed.mobileip.core.security import Peer
from testbed.mobileip.wire.authentication import FOREIGN_HOME, MOBILE_HOME
from testbed.mobileip.wire.code import Code
from testbed.mobileip.wire.registration_request import RegistrationRequest


class HomeAuthentication:
    """Checks authentications of mobile nodes and foreign agents; what fails is counted."""

    def __init__(self, nodes: Associations, agents: Associations, counters: Counter[str]) -> None:
        self._nodes = nodes
        self._agents = agents
        self._counters = counters

    def mobile_node(self, datagram: Datagram, request: RegistrationRequest, node: Peer) -> None:
        """§3.8.2.1 a and d. Raises Deny and Discard."""
        agent_known = datagram.source in self._agents
        if not agent_known and FOREIGN_HOME in [extension.type for extension in request.extensions]:
            raise Discard("foreign-home-without-association")
        try:
            self._nodes.authenticate(datagram.payload, request.extensions, MOBILE_HOME, node)
        except AuthenticationError as error:
            if error.reason == "missing-authentication":
                raise Discard("missing-authentication") from error
            self._counters[f"mobile-node-{error.reason}"] += 1
            if agent_known:
                # An agent that shares an association must authenticate to get a denial; others always get it.
                try:
                    self._agents.authenticate(
                        datagram.payload, request.extensions, FOREIGN_HOME, datagram.source
                    )
                except AuthenticationError:
                    raise Discard("failed-authentication") from error
            raise Deny(Code.HA_MOBILE_NODE_FAILED_AUTHENTICATION, error.reason) from error

    def foreign_agent(self, datagram: Datagram, request: RegistrationRequest) -> None:
        """§3.8.2.1 c; a deregistration carries no such extension. Raises Deny."""
        if datagram.source not in self._agents or request.lifetime == 0:
            return
        try:
            self._agents.authenticate(datagram.payload, request.extensions, FOREIGN_HOME, datagram.source)
        except AuthenticationError as error:
            self._counters[f"foreign-agent-{error.reason}"] += 1
            raise Deny(Code.HA_FOREIGN_AGENT_FAILED_AUTHENTICATION, error.reason) from error
