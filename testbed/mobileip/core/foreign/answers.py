"""What a foreign agent sends to mobile nodes (RFC 5944 §3.7.2.3, §3.7.3.2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from dataclasses import replace
from ipaddress import IPv4Address

from testbed.mobileip.core.api import Datagram, SendDatagram
from testbed.mobileip.core.association import Associations, sign
from testbed.mobileip.core.foreign.challenges import Challenges
from testbed.mobileip.core.foreign.config import ForeignAgentConfig
from testbed.mobileip.core.foreign.pending import Pending
from testbed.mobileip.core.limits import OncePer
from testbed.mobileip.core.links import BROADCAST, is_unicast
from testbed.mobileip.core.outbox import Outbox
from testbed.mobileip.wire import PORT
from testbed.mobileip.wire.authentication import MOBILE_FOREIGN
from testbed.mobileip.wire.challenge import CHALLENGE
from testbed.mobileip.wire.code import Code, describe
from testbed.mobileip.wire.extension import Extension
from testbed.mobileip.wire.nai import nai_of
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest


class Answers:
    """Replies to requests: relayed ones and denials; `own` are the agent's addresses."""

    def __init__(
        self,
        config: ForeignAgentConfig,
        nodes: Associations,
        own: Container[IPv4Address],
        out: Outbox,
        counters: Counter[str],
        challenges: Challenges,
    ) -> None:
        self._config = config
        self._nodes = nodes
        self._own = own
        self._out = out
        self._counters = counters
        self._challenges = challenges
        self._denials: OncePer = OncePer(1.0)

    def deny(
        self, datagram: Datagram, request: RegistrationRequest, code: Code, now: float, why: str = ""
    ) -> None:
        """§3.7.2.3; once per second and mobile node at most (§3.7.2, RFC 3024 §4.2.1)."""
        self._counters[f"denied-{code}"] += 1
        nai = nai_of(request.extensions)
        if not self._denials.allow((request.home_address, nai), now):
            self._counters["denials-withheld"] += 1
            return
        lifetime = request.lifetime
        if code == Code.FA_LIFETIME_TOO_LONG:
            lifetime = self._config.registration_lifetime
        reply = RegistrationReply(
            code, lifetime, request.home_address, request.home_agent, request.identification
        )
        self._out.event(
            "denied", home_address=str(request.home_address), code=int(code), reason=why or describe(code)
        )
        self.send(datagram, request.home_address, nai, reply.encode())

    def source(self, datagram: Datagram) -> IPv4Address:
        """Our address in the answer to a request."""
        own = datagram.destination in self._own
        return datagram.destination if own else self._config.link(datagram.interface).address

    def recode(self, pending: Pending, reply: RegistrationReply, code: Code) -> None:
        """Pass a reply on that lacks what it must have, with another code (RFC 2794 §3).

        What proved it to the mobile node does so no more, and is left out.
        """
        self._counters[f"denied-{code}"] += 1
        home_address = str(reply.home_address)
        self._out.event("denied", home_address=home_address, code=int(code), reason=describe(code))
        payload = replace(reply, code=code, extensions=()).encode()
        self.send(pending.datagram, reply.home_address, pending.nai, payload)

    def send(
        self,
        datagram: Datagram,
        home_address: IPv4Address,
        nai: str | None,
        payload: bytes,
        authentic: bool = False,
    ) -> None:
        """Answer the request that `datagram` brought, authenticated where it can be (§3.7.2.3).

        With challenges the reply has one for the next request (RFC 4721 §3.3); `authentic` is whether the
        mobile node has proven itself.
        """
        challenge = self._challenges.for_one(datagram.interface, home_address, nai, authentic)
        if challenge is not None:
            payload += Extension(CHALLENGE, challenge).encode()
        association = self._nodes.choose(self._nodes.known_as(home_address, nai))
        if association is not None:
            payload = sign(payload, MOBILE_FOREIGN, association)
        link = self._config.link(datagram.interface)
        self._out.add(
            SendDatagram(
                Datagram(
                    payload,
                    self.source(datagram),
                    PORT,
                    home_address if is_unicast(home_address) else BROADCAST,
                    datagram.source_port,
                    link.interface,
                    link_address=datagram.link_address,
                )
            )
        )
