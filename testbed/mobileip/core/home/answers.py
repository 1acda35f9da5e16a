"""A home agent's replies, and where they go (RFC 5944 §3.8.3)."""

from __future__ import annotations

from testbed.mobileip.core.api import Datagram, SendDatagram
from testbed.mobileip.core.association import Associations, sign, spi_of
from testbed.mobileip.core.home.config import HomeAgentConfig
from testbed.mobileip.core.links import is_unicast
from testbed.mobileip.core.outbox import Outbox
from testbed.mobileip.core.revocation import Terms
from testbed.mobileip.core.security import SecurityAssociation
from testbed.mobileip.wire.authentication import FOREIGN_HOME, MOBILE_HOME
from testbed.mobileip.wire.challenge import CHALLENGE, challenge
from testbed.mobileip.wire.code import Code
from testbed.mobileip.wire.extension import Extension, encode_extensions
from testbed.mobileip.wire.nai import TYPE as NAI
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag
from testbed.mobileip.wire.trusted import trusted_networks_configured
from testbed.mobileip.wire.udp_tunnel import UdpTunnelReply


def returned_home(datagram: Datagram, request: RegistrationRequest) -> bool:
    """Whether the mobile node asks from its home address: it is at home, whatever binding still exists."""
    return request.lifetime == 0 and request.care_of_address == request.home_address == datagram.source


class Answers:
    """Replies to requests; `agents` are the associations with foreign agents."""

    def __init__(self, config: HomeAgentConfig, agents: Associations, out: Outbox) -> None:
        self._config = config
        self._broadcasts = config.broadcasts
        self._agents = agents
        self._out = out

    def reply(
        self,
        datagram: Datagram,
        request: RegistrationRequest,
        association: SecurityAssociation,
        code: Code,
        lifetime: int,
        identification: int,
        answer: UdpTunnelReply | None = None,
        terms: Terms | None = None,
    ) -> None:
        """§3.8.3; what is for the other end of the tunnel is in what proves the reply to that."""
        # RFC 2794 §3: whoever gives an NAI finds it in the reply.
        nai = tuple([each for each in request.extensions if each.type == NAI][:1])
        fixed = (code, lifetime, request.home_address, self._config.address, identification)
        trusted = () if self._config.trusted is None else (trusted_networks_configured(),)
        reply = RegistrationReply(*fixed, (*nai, *trusted))
        extension = encode_extensions([each.encode() for each in (answer, terms) if each is not None])
        if request.flags & RequestFlag.DECAPSULATION:
            payload = sign(reply.encode() + extension, MOBILE_HOME, association)
        else:
            payload = sign(reply.encode(), MOBILE_HOME, association) + extension
        if (value := challenge(request.extensions)) is not None:  # RFC 4721 §3.4
            payload += Extension(CHALLENGE, value).encode()
        if datagram.source in self._agents and request.lifetime != 0:  # §3.5.4: never on deregistrations
            agent = self._agents.choose(datagram.source, spi_of(request.extensions, FOREIGN_HOME))
            if agent is not None:
                payload = sign(payload, FOREIGN_HOME, agent)
        self._to_sender(datagram, request, payload)

    def _to_sender(self, datagram: Datagram, request: RegistrationRequest, payload: bytes) -> None:
        """Send to where `request` came from; on the home link to the sender's link address (§3.8.3.1)."""
        source = datagram.destination
        if not is_unicast(source) or source in self._broadcasts:
            source = self._config.address
        at_home = returned_home(datagram, request)
        self._out.add(
            SendDatagram(
                Datagram(
                    payload,
                    source,
                    datagram.destination_port,
                    datagram.source,
                    datagram.source_port,
                    self._config.home_interface if at_home else None,
                    link_address=datagram.link_address if at_home else None,
                )
            )
        )
