"""A Mobile IPv4 home agent that shares no line with `testbed.mobileip`: RFC 5944 by its text, octet by octet.

    python3 home_agent.py CONFIG.json

It takes the place of the testbed's own in guideline 5.4. Tunnels are IP in IP, through a TUN device. It
authenticates by HMAC-MD5 and sees replays by timestamps. Requests for other encapsulations it denies, and
what it does not know of extensions it discards or skips, as their types say (RFC 5944 §1.8).
"""

import fcntl
import hashlib
import hmac
import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

PORT = 434
IPIP = 4
NTP_EPOCH = 2208988800  # seconds from 1900 to 1970
TOLERANCE = 7  # seconds that clocks may differ (RFC 5944 §5.7.1)
REQUEST, REPLY = struct.Struct("!BBH4s4s4sQ"), struct.Struct("!BBH4s4sQ")
SIMULTANEOUS, MINIMAL, GRE = 0x80, 0x10, 0x08
MOBILE_HOME, MOBILE_FOREIGN, FOREIGN_HOME, TRUSTED = 32, 33, 34, 149
ACCEPTED, NO_SIMULTANEOUS, NOT_AUTHENTIC, BAD_IDENTIFICATION, NOT_MINE, NO_ENCAPSULATION = (
    0,
    1,
    131,
    133,
    136,
    139,
)
DEVICE = "iha0"
TUNSETIFF, TUN_WITHOUT_HEADER = 0x400454CA, 0x1001
ETHERTYPE_ARP = 0x0806
ALL_HOSTS, ALL_ROUTERS = "224.0.0.1", "224.0.0.2"
ADVERTISEMENT, SOLICITATION, HOME_AGENT = 9, 10, 0x2000


class HomeAgent:
    """What it decides; it knows neither sockets nor a clock."""

    def __init__(self, config):
        self.address = IPv4Address(config["address"])
        self.lifetime = config["lifetime"]
        self.trusted = [IPv4Network(one) for one in config["trusted"]]
        self.keys = {
            IPv4Address(home): (one["spi"], bytes.fromhex(one["key"]))
            for home, one in config["nodes"].items()
        }
        self.bindings = {}  # home address → care-of address, and when it ends
        self.last = {}  # home address → the last identification that was accepted

    def answer(self, octets, source, now):
        """The reply to a request that came from an address at a time (s since 1970); None: discard it."""
        if len(octets) < REQUEST.size or octets[0] != 1:
            return None
        if self.trusted and not any(source in network for network in self.trusted):
            return None  # RFC 5265 §4.3
        _, flags, lifetime, home, agent, care_of, identification = REQUEST.unpack_from(octets)
        home, agent, care_of = map(IPv4Address, (home, agent, care_of))
        found = self._authenticators(octets)
        if found is None or home not in self.keys:
            return None
        code, granted = self._code(home, agent, flags, identification, found, now), 0
        if code == BAD_IDENTIFICATION:
            identification = int(now + NTP_EPOCH) << 32 | identification & 0xFFFFFFFF
        if code in (ACCEPTED, NO_SIMULTANEOUS):
            self.last[home] = identification
            granted = min(lifetime, self.lifetime)
            if lifetime == 0 or care_of == home:
                granted = 0
                self.bindings.pop(home, None)
            else:
                self.bindings[home] = care_of, now + granted
        reply = REPLY.pack(3, code, granted, home.packed, self.address.packed, identification)
        if self.trusted:
            reply += bytes((TRUSTED, 2, 0, 0))  # RFC 5265 §3.4
        spi, key = self.keys[home]
        reply += struct.pack("!BBI", MOBILE_HOME, 20, spi)
        return reply + hmac.digest(key, reply, "md5")

    def _authenticators(self, octets):
        """Where Mobile-Home Authentication Extensions begin; None where the message has to be discarded."""
        at, found = REQUEST.size, []
        while at < len(octets):
            kind = octets[at]
            if kind == 0:  # one octet of padding (RFC 5944 §1.9)
                at += 1
                continue
            if at + 2 > len(octets) or at + 2 + octets[at + 1] > len(octets):
                return None
            if kind == MOBILE_HOME:
                found.append(at)
            elif kind < 128 and kind not in (MOBILE_FOREIGN, FOREIGN_HOME):
                return None
            at += 2 + octets[at + 1]
        return [(one, octets) for one in found]

    def _code(self, home, agent, flags, identification, found, now):
        if len(found) != 1 or not self._authentic(home, *found[0]):
            return NOT_AUTHENTIC
        if agent != self.address:
            return NOT_MINE
        if abs((identification >> 32) - (now + NTP_EPOCH)) > TOLERANCE or identification <= self.last.get(
            home, 0
        ):
            return BAD_IDENTIFICATION
        if flags & (MINIMAL | GRE):
            return NO_ENCAPSULATION
        return NO_SIMULTANEOUS if flags & SIMULTANEOUS else ACCEPTED

    def _authentic(self, home, at, octets):
        """HMAC-MD5 of all before it: type, length and SPI of its own extension too (RFC 5944 §3.5)."""
        spi, key = self.keys[home]
        sent = octets[at + 6 : at + 2 + octets[at + 1]]
        right = hmac.digest(key, octets[: at + 6], hashlib.md5)
        return octets[at + 2 : at + 6] == struct.pack("!I", spi) and hmac.compare_digest(sent, right)

    def expire(self, now):
        """Forget bindings that have ended."""
        self.bindings = {home: one for home, one in self.bindings.items() if one[1] > now}

    def outgoing(self, packet):
        """Where a packet for a mobile node is tunnelled to; None: nowhere."""
        bound = self.bindings.get(IPv4Address(packet[16:20])) if len(packet) >= 20 else None
        return bound[0] if bound else None

    def incoming(self, packet):
        """What was in a tunnel from the care-of address of its sender; None for all else."""
        inner = packet[(packet[0] & 15) * 4 :]
        bound = self.bindings.get(IPv4Address(inner[12:16])) if len(inner) >= 20 else None
        return inner if bound and bound[0] == IPv4Address(packet[12:16]) else None


class Advertiser:
    """What mobile nodes at home hear: agent advertisements, every second and when asked (RFC 5944 §2.1)."""

    def __init__(self, address, link, prefix_length, lifetime):
        self.address, self.prefix_length, self.lifetime = address, prefix_length, lifetime
        self.sequence, self.due = 0, 0.0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode())
        self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        self.socket.setsockopt(
            socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(ALL_ROUTERS) + address.packed
        )

    def hear(self, packet):
        """A router solicitation is answered at once."""
        if packet[(packet[0] & 15) * 4] == SOLICITATION:
            self.due = 0.0

    def send(self, now):
        """When it is time."""
        if now < self.due:
            return
        self.socket.sendto(
            advertisement(self.address, self.prefix_length, self.sequence, self.lifetime), (ALL_HOSTS, 0)
        )
        self.sequence = self.sequence + 1 if self.sequence < 0xFFFF else 256
        self.due = now + 1.0


def advertisement(address, prefix_length, sequence, lifetime):
    """An ICMP router advertisement of a home agent that routes nothing else (code 16)."""
    body = struct.pack("!BBH4si", 1, 2, 3, address.packed, 0)  # one address, for 3 s
    body += struct.pack("!BBHHH", 16, 6, sequence, lifetime, HOME_AGENT)
    body += bytes((19, 1, prefix_length))
    whole = bytes((ADVERTISEMENT, 16, 0, 0)) + body
    return whole[:2] + struct.pack("!H", checksum(whole)) + body


def checksum(octets):
    """The Internet checksum (RFC 1071)."""
    total = sum(struct.unpack(f"!{(len(octets) + 1) // 2}H", octets + bytes(len(octets) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Plane:
    """The kernel's part: who is reached through the tunnel device, and for whom the home link is answered."""

    def __init__(self, link):
        self.link = link
        self.away = set()
        self.tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self.tun, TUNSETIFF, struct.pack("16sH", DEVICE.encode(), TUN_WITHOUT_HEADER))
        self._ip(f"link set {DEVICE} mtu 1480 up")

    def follow(self, homes):
        """Intercept what is for the mobile nodes that are away, and for no other (RFC 5944 §4.6)."""
        for home in homes - self.away:
            self._ip(f"route replace {home}/32 dev {DEVICE}")
            if self.link:
                self._ip(f"neighbour replace proxy {home} dev {self.link}")
                self._announce(home)
        for home in self.away - homes:
            self._ip(f"route delete {home}/32 dev {DEVICE}")
            if self.link:
                self._ip(f"neighbour delete proxy {home} dev {self.link}")
        self.away = set(homes)

    def _announce(self, home):
        """A gratuitous ARP: the home address is here now."""
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
            link.bind((self.link, ETHERTYPE_ARP))
            own = link.getsockname()[4]
            arp = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, own, home.packed, bytes(6), home.packed)
            link.send(b"\xff" * 6 + own + struct.pack("!H", ETHERTYPE_ARP) + arp)

    @staticmethod
    def _ip(arguments):
        subprocess.run(["ip", *arguments.split()], check=True)


def serve(config):
    """Answer requests and carry packets until the end."""
    agent, plane = HomeAgent(config), Plane(config["interface"])
    requests = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    requests.bind((str(agent.address), PORT))
    tunnel = socket.socket(socket.AF_INET, socket.SOCK_RAW, IPIP)
    tunnel.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER: never "don't fragment"
    tunnel.bind((str(agent.address), 0))
    link = (
        [Advertiser(agent.address, config["interface"], config["prefix-length"], agent.lifetime)]
        if config["interface"]
        else []
    )
    while True:
        ready, _, _ = select.select([requests, tunnel, plane.tun, *(one.socket for one in link)], [], [], 0.2)
        for one in link:
            if one.socket in ready:
                one.hear(one.socket.recv(2048))
            one.send(time.monotonic())
        if requests in ready:
            octets, peer = requests.recvfrom(2048)
            reply = agent.answer(octets, IPv4Address(peer[0]), time.time())
            if reply is not None:
                plane.follow(agent.bindings.keys())
                requests.sendto(reply, peer)
        if tunnel in ready and (inner := agent.incoming(tunnel.recv(65535))):
            os.write(plane.tun, inner)
        if plane.tun in ready:
            packet = os.read(plane.tun, 65535)
            if care_of := agent.outgoing(packet):
                try:
                    tunnel.sendto(packet, (str(care_of), 0))
                except OSError as error:  # no way there at the moment
                    print(f"to {care_of}: {error}", file=sys.stderr)
        agent.expire(time.time())
        plane.follow(agent.bindings.keys())


if __name__ == "__main__":
    serve(json.loads(Path(sys.argv[1]).read_text()))
