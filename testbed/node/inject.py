"""Packets that nobody else would send, made up: UDP, ESP, IP-in-IP, Mobile IP messages, IKE_SA_INIT.

    python3 -m testbed.node.inject esp 203.0.113.2 203.0.113.10 --count 3
    python3 -m testbed.node.inject ipip 10.0.1.2 203.0.113.10 --inner 10.0.4.10 10.0.1.100
    python3 -m testbed.node.inject request 203.0.113.66 203.0.113.40 --home 192.0.2.100 --agent 203.0.113.40
    python3 -m testbed.node.inject reply 203.0.113.40 198.51.100.90 --answers PACKET
    python3 -m testbed.node.inject advertisement 198.51.100.126 224.0.0.1 --device hotel --every 5
    python3 -m testbed.node.inject ike 203.0.113.66 203.0.113.2 --notify 40961

The first address is what a packet claims to come from. The node's own routes and rules decide where it goes,
unless `--device` names the interface. With `--every` it goes on until it is
killed, and prints `running` once it does.
"""

from __future__ import annotations

import argparse
import itertools
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import IPv4Address, IPv4Network

from testbed.agreed import DISCARD_PORT, MADE_UP
from testbed.mobileip.wire import ipv4
from testbed.mobileip.wire.agent_advertisement import AgentAdvertisement, AgentFlag, MobilityAgentExtension
from testbed.mobileip.wire.algorithm import AUTHENTICATOR_SIZE, Algorithm
from testbed.mobileip.wire.authentication import MOBILE_HOME, header
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.extension import Extension, encode_extensions
from testbed.mobileip.wire.identification import from_unix
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag
from testbed.node import knock
from testbed.node.arp import ARP, answer
from testbed.node.whole import send

ESP = 50
MOBILE_IP, IKE = 434, 500
"""Ports of UDP."""
TRUSTED_NETWORKS = 149
"""The Trusted Networks Configured Extension (RFC 5265 §3.2.3); carries no data here."""
LIFETIME = 600
PROTOCOLS = ("udp", "esp", "ipip", "request", "reply", "advertisement", "ike")

Ends = tuple[IPv4Address, IPv4Address]


def esp(sequence: int) -> bytes:
    """A packet with a random SPI that belongs to nobody, and random octets for a payload (RFC 4303 §2)."""
    spi = int.from_bytes(os.urandom(4), "big") | 0x80000000
    return struct.pack("!II", spi, sequence) + os.urandom(64)


def udp_packet(source: str, destination: str) -> bytes:
    """A whole IPv4 packet with a UDP datagram to the discard port."""
    return ipv4.udp(
        MADE_UP.encode(), (IPv4Address(source), DISCARD_PORT), (IPv4Address(destination), DISCARD_PORT)
    )


def proven(message: bytes, key: bytes, spi: int) -> bytes:
    """A message with the Mobile-Home Authentication Extension (RFC 5944 §3.5.2), by HMAC-MD5."""
    covered = message + header(MOBILE_HOME, spi, AUTHENTICATOR_SIZE)
    return covered + Algorithm.HMAC_MD5.authenticator(key, covered)


def request(
    home: IPv4Address, agent: IPv4Address, care_of: IPv4Address, now: float, key: bytes, spi: int
) -> bytes:
    """A registration request for a co-located care-of address, at the Unix time `now` (RFC 5944 §3.3)."""
    flags = RequestFlag.DECAPSULATION | RequestFlag.REVERSE_TUNNEL
    fixed = RegistrationRequest(flags, LIFETIME, home, agent, care_of, from_unix(now))
    return proven(fixed.encode(), key, spi)


def reply(asked: RegistrationRequest, code: int, trusted: bool, key: bytes, spi: int) -> bytes:
    """A registration reply to a request (RFC 5944 §3.4), that the network is trusted, too, if it is to."""
    fixed = RegistrationReply(
        code, asked.lifetime, asked.home_address, asked.home_agent, asked.identification
    )
    more = encode_extensions([Extension(TRUSTED_NETWORKS)] if trusted else [])
    return proven(fixed.encode() + more, key, spi)


def answered(packet: bytes) -> tuple[int, RegistrationRequest]:
    """The port that a captured registration request came from, and its fixed portion. Raises ValueError."""
    start = (packet[0] & 0xF) * 4
    try:
        asked = RegistrationRequest.decode_fixed(packet[start + 8 :])
    except WireError as error:
        raise ValueError(f"no registration request: {error}") from error
    return int.from_bytes(packet[start : start + 2]), asked


def advertisement(agent: IPv4Address, sequence: int, home: bool) -> bytes:
    """An Agent Advertisement (RFC 5944 §2.1) of a foreign agent, or of a home agent."""
    flags = AgentFlag.REVERSE_TUNNEL
    flags |= AgentFlag.HOME_AGENT if home else AgentFlag.FOREIGN_AGENT | AgentFlag.REGISTRATION_REQUIRED
    care_of = () if home else (agent,)
    mobility = MobilityAgentExtension(sequence % 0x10000, LIFETIME, flags, care_of)
    return AgentAdvertisement(9, ((agent, 0),), mobility).encode()


def ike(notify: int | None) -> bytes:
    """An IKE_SA_INIT request that is declined, with a status notification of any type (RFC 7296 §3.10)."""
    message = knock.request(os.urandom(8))
    if notify is None:
        return message
    payload = struct.pack("!BxHBBH", 0, 8, 0, 0, notify)
    # The nonce is the last payload so far, 36 octets of it: what follows it is new.
    nonce = len(message) - 36
    message = message[:nonce] + bytes([knock.NOTIFY]) + message[nonce + 1 :] + payload
    return message[:24] + struct.pack("!I", len(message)) + message[28:]


def _maker(options: argparse.Namespace) -> Callable[[int], bytes]:
    """What makes the packet with a number, from 1 on. Raises ValueError."""
    ends = source, destination = IPv4Address(options.source), IPv4Address(options.destination)
    key = bytes.fromhex(options.key) if options.key else os.urandom(16)

    def datagram(payload: bytes, ports: tuple[int, int] = (MOBILE_IP, MOBILE_IP)) -> bytes:
        return ipv4.udp(payload, (source, ports[0]), (destination, ports[1]))

    match options.protocol:
        case "udp":
            return lambda _: udp_packet(options.source, options.destination)
        case "esp":
            return lambda number: ipv4.datagram(esp(number), ESP, *ends)
        case "ipip":
            inner = udp_packet(*options.inner)
            return lambda number: ipv4.ip_in_ip(inner, *ends, number)
        case "request":
            home, agent = IPv4Address(options.home), IPv4Address(options.agent)
            care_of = IPv4Address(options.care_of or options.source)
            return lambda _: datagram(request(home, agent, care_of, time.time(), key, options.spi))
        case "reply":
            if options.answers:
                port, asked = answered(bytes.fromhex(options.answers))
            else:
                home, agent = IPv4Address(options.home), IPv4Address(options.agent)
                port, asked = (
                    MOBILE_IP,
                    RegistrationRequest(0, LIFETIME, home, agent, home, from_unix(time.time())),
                )
            payload = reply(asked, options.code, options.trusted, key, options.spi)
            return lambda _: datagram(payload, (MOBILE_IP, port))
        case "advertisement":
            return lambda number: ipv4.datagram(
                advertisement(source, number, options.as_home), ipv4.ICMP, *ends, ttl=1
            )
        case _:
            return lambda _: datagram(ike(options.notify), (IKE, IKE))


def _without_end(make: Callable[[int], bytes], pause: Callable[[], None]) -> Iterator[bytes]:
    for number in itertools.count(1):
        yield make(number)
        if number == 1:
            print("running", flush=True)
        pause()


def _answering(device: str, owned: IPv4Network, every: float) -> Callable[[], None]:
    """What to do for so many seconds: answer requests for the addresses of a network, to be taken for it."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ARP))
    sock.bind((device, ARP))

    def pause() -> None:
        end = time.monotonic() + every
        while select.select([sock], [], [], max(end - time.monotonic(), 0))[0]:
            said = answer(sock.recv(2048), sock.getsockname()[4], owned)
            if said is not None:
                sock.send(said)

    return pause


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="testbed.node.inject")
    parser.add_argument("protocol", choices=PROTOCOLS)
    parser.add_argument("source", help="what the packets claim to come from")
    parser.add_argument("destination")
    parser.add_argument("--device", help="the interface that they leave by")
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--every", type=float, default=0.0, help="milliseconds between two, for ever")
    parser.add_argument("--owns", type=IPv4Network, help="a network for whose addresses it answers, too")
    parser.add_argument("--inner", nargs=2, metavar=("SOURCE", "DESTINATION"), help="of ipip")
    parser.add_argument("--home", help="the mobile node's home address, of request and reply")
    parser.add_argument("--agent", help="its home agent, of request and reply")
    parser.add_argument("--care-of", help="of a request (default: the source)")
    parser.add_argument("--answers", metavar="HEX", help="of a reply: the packet with the request")
    parser.add_argument("--code", type=int, default=0, help="of a reply")
    parser.add_argument("--trusted", action="store_true", help="a reply from a trusted network")
    parser.add_argument("--key", metavar="HEX", help="of request and reply (default: a random key)")
    parser.add_argument("--spi", type=int, default=256)
    parser.add_argument("--as-home", action="store_true", help="an advertisement of a home agent")
    parser.add_argument("--notify", type=int, help="of ike: a notification's type")
    options = parser.parse_args(arguments)
    if (options.protocol == "ipip") != (options.inner is not None):
        parser.error("ipip, and only ipip, needs --inner")
    if options.owns and not (options.device and options.every):
        parser.error("--owns needs --device and --every")
    named = options.home is not None and options.agent is not None
    if options.protocol == "request" and not named:
        parser.error("request needs --home and --agent")
    if options.protocol == "reply" and not (named or options.answers):
        parser.error("reply needs --answers, or --home and --agent")
    try:
        make, every = _maker(options), options.every / 1000
        pause: Callable[[], None] = partial(time.sleep, every)
        if options.owns:
            pause = _answering(options.device, options.owns, every)
        numbers = range(1, options.count + 1)
        send(_without_end(make, pause) if every else map(make, numbers), options.device)
    except (OSError, ValueError) as error:
        parser.exit(1, f"cannot send: {error}\n")


if __name__ == "__main__":
    main()
