"""What a home agent decides about tunnelling in UDP, through a NAT (RFC 3519 §4.6)."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from ipaddress import IPv4Address

from testbed.mobileip.core.api import Datagram, SendDatagram
from testbed.mobileip.core.disposition import Deny
from testbed.mobileip.core.encapsulations import NUMBERS, agreed
from testbed.mobileip.core.home.bindings import Binding, BindingTable, UdpEnd
from testbed.mobileip.core.home.config import HomeAgentConfig
from testbed.mobileip.core.outbox import Outbox
from testbed.mobileip.wire.authentication import FOREIGN_HOME, MOBILE_HOME
from testbed.mobileip.wire.code import Code
from testbed.mobileip.wire.echo import REPLY as ECHO_REPLY
from testbed.mobileip.wire.echo import REQUEST as ECHO_REQUEST
from testbed.mobileip.wire.echo import Echo
from testbed.mobileip.wire.encapsulation import Encapsulation
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag
from testbed.mobileip.wire.udp_tunnel import (
    DECLINED,
    REQUEST,
    TunnelData,
    UdpTunnelReply,
    UdpTunnelRequest,
)


def asked(request: RegistrationRequest) -> tuple[UdpTunnelRequest, bool] | None:
    """What the request asks for, and whether a foreign agent does; None where nobody asks.

    The mobile node puts the extension before its authentication (§4.4), a foreign agent behind that and
    before its own (§4.5). Where an extension is that no authentication covers although there are two, it is
    ignored.
    """
    passed: set[int] = set()
    for extension in request.extensions:
        if extension.type in (MOBILE_HOME, FOREIGN_HOME):
            passed.add(extension.type)
        elif extension.type == REQUEST and FOREIGN_HOME not in passed:
            found = UdpTunnelRequest.decode(extension.data)
            if found is not None:
                return found, MOBILE_HOME in passed
    return None


def decide(
    config: HomeAgentConfig,
    datagram: Datagram,
    request: RegistrationRequest,
    homes: Container[IPv4Address],
) -> UdpTunnelReply | None:
    """The answer to what is asked for; None where none is due. Raises Deny.

    Whoever is answered by an assenting reply has a tunnel in UDP, and no other; it ends at the source of the
    request, which so has to be a possible care-of address. `homes` are the home addresses.
    """
    found = asked(request)
    if found is None or request.lifetime == 0:
        return None
    tunnel, by_agent = found
    if by_agent is bool(request.flags & RequestFlag.DECAPSULATION):  # §3.1.5, §4.6.1
        raise Deny(Code.HA_POORLY_FORMED_REQUEST, "UDP tunnel asked for by who is not its end")
    offer = config.udp_tunnel
    # §4.6: a mismatch of source and care-of address "as the indication that a mobile node may reside behind a
    # NAT"; with R the source is the foreign agent's, which knows of the NAT.
    behind_nat = datagram.source != request.care_of_address
    if not (behind_nat or tunnel.force):
        return UdpTunnelReply(DECLINED) if offer is not None else None
    if offer is None:
        raise Deny(Code.HA_PROHIBITED, "UDP tunnel not permitted")
    if not behind_nat and not offer.forced:
        raise Deny(Code.HA_PROHIBITED, "UDP tunnel not permitted without a NAT")
    if datagram.source in homes or datagram.source == config.address:
        raise Deny(Code.HA_PROHIBITED, "the source address cannot be a care-of address")
    if _encapsulation(request) not in {
        NUMBERS[each] for each in (Encapsulation.IP_IN_IP, *config.encapsulations)
    }:
        raise Deny(Code.HA_UDP_ENCAPSULATION_UNAVAILABLE)
    return UdpTunnelReply(forced=tunnel.force, keepalive=offer.keepalive)


def through_agent(request: RegistrationRequest) -> bool:
    """Whether a mobile node registers its own care-of address through an agent behind a NAT (§4.11)."""
    found = asked(request)
    return found is not None and found[0].through_agent and not found[1]


def _encapsulation(request: RegistrationRequest) -> int:
    """What the tunnel is to carry: what the extension says, else the M and G bits (§3.1.4, §4.1)."""
    found = asked(request)
    return (found and found[0].encapsulation) or NUMBERS[agreed(request.flags)[0]]


def udp_end(datagram: Datagram, request: RegistrationRequest, known: tuple[Binding, ...]) -> UdpEnd:
    """Where the tunnel of an accepted request goes; `known` are the mobile node's bindings up to now."""
    care_of, encapsulation = request.care_of_address, _encapsulation(request)
    if not through_agent(request):
        return UdpEnd(care_of, datagram.source_port, encapsulation=encapsulation)
    # §4.6: the source port is the foreign agent's. A renewal leaves the mobile node where it was.
    ports = (
        each.udp.port
        for each in known
        if each.udp is not None and (each.care_of_address, each.udp.asked) == (datagram.source, care_of)
    )
    return UdpEnd(care_of, next(ports, None), True, encapsulation)


def take_keepalive(
    home_agent: IPv4Address, datagram: Datagram, bindings: BindingTable, out: Outbox
) -> IPv4Address | None:
    """Take the keepalive that a binding waits for, and answer it; the home address if that moves the tunnel.

    The first keepalive of a mobile node that registered through an agent shows where it is (§4.6). Only the
    port may differ from where the request came from (§6.1.2). All other tunnel data is the data plane's.
    """
    try:
        message = TunnelData.decode(datagram.payload)
        inner = message.datagram(datagram.source, datagram.destination)
        home_address, destination, echo = Echo.from_datagram(inner)
    except WireError:
        return None
    if (destination, echo.type) != (home_agent, ECHO_REQUEST):
        return None
    for binding in bindings.of(home_address):
        udp = binding.udp
        if udp is None or not udp.half_bound or binding.care_of_address != datagram.source:
            continue
        if message.next_header != udp.encapsulation:  # §3.3
            continue
        bound = replace(udp, port=datagram.source_port, half_bound=False)
        bindings.add(home_address, replace(binding, udp=bound), retain=True)
        if udp.port == datagram.source_port:
            return None  # the tunnel is there, and so the data plane answers
        inner = replace(echo, type=ECHO_REPLY).datagram(home_agent, home_address)
        out.add(
            SendDatagram(
                Datagram(
                    TunnelData.around(message.next_header, inner).encode(),
                    datagram.destination,
                    datagram.destination_port,
                    datagram.source,
                    datagram.source_port,
                )
            )
        )
        care_of, port = str(datagram.source), datagram.source_port
        out.event("binding-moved", home_address=str(home_address), care_of=care_of, port=port)
        return home_address
    return None
