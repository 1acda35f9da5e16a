"""A small evidence folder as `verify` and `measure` write it, with real captures made by scapy."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from functools import cache
from ipaddress import IPv4Address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.ipsec import ESP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from testbed.mobileip.wire.agent_advertisement import AgentAdvertisement, MobilityAgentExtension
from testbed.mobileip.wire.authentication import MOBILE_HOME, header
from testbed.mobileip.wire.extension import Extension
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest
from testbed.packet.pcap import ETHERNET, LINUX_SLL2
from testbed.topology.load import load_topology

START = 1_760_000_000.0
HOME, HA, CN, GW = "10.0.1.100", "10.0.1.2", "10.0.4.10", "203.0.113.2"
AIRPORT, INNER = "198.51.100.134", "10.0.250.1"
MAC = {
    name: f"02:00:00:00:00:{n:02x}"
    for n, name in enumerate(["mn", "airport-router", "gw", "ha", "r1", "cn", "core", "fa-hotspot"], 1)
}


def pcap(frames: list[tuple[float, bytes]], linktype: int) -> bytes:
    """A classic pcap file, as tcpdump writes it."""
    from struct import pack

    data = pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, linktype)
    for time, frame in sorted(frames):
        seconds = int(time)
        data += pack("<IIII", seconds, round((time - seconds) * 1e6) % 10**6, len(frame), len(frame)) + frame
    return data


class Wire:
    """Puts packets on taps: the mobile node's are cooked, as one tcpdump watches all its links."""

    def __init__(self) -> None:
        self.taps: dict[str, list[tuple[float, bytes]]] = {}
        self.number = 0

    def tap(self, name: str) -> None:
        """A tap that may stay empty."""
        self.taps.setdefault(name, [])

    def send(self, at: float, packet: Any, *taps: str, sender: str = "mn", receiver: str = "gw") -> None:
        """Send a datagram seen at taps, 2 ms apart, with its TTL counted down."""
        self.number += 1
        if IP in packet and packet[IP].id == 1:
            packet[IP].id = self.number
        for hop, tap in enumerate(taps):
            seen = packet.copy()
            if IP in seen:
                seen[IP].ttl -= hop
            node = tap.partition("-")[0]
            if node == "mn":
                kind = 4 if sender == "mn" else 0
                head = bytes.fromhex("0800 0000 00000007 0001") + bytes((kind, 6))
                frame = head + bytes.fromhex(MAC[sender].replace(":", "")) + bytes(2) + bytes(seen)
            else:
                frame = bytes(Ether(src=MAC[sender], dst=MAC[receiver]) / seen)
            self.taps.setdefault(tap, []).append((START + at + hop * 0.002, frame))

    def write(self, folder: Path) -> None:
        """Write one file per tap."""
        (folder / "captures").mkdir(parents=True)
        for tap, frames in self.taps.items():
            linktype = LINUX_SLL2 if tap.startswith("mn-") else ETHERNET
            (folder / "captures" / f"{tap}.pcap").write_bytes(pcap(frames, linktype))


def ike(exchange: int, *, response: bool, message_id: int, spi: int, marker: bool) -> Raw:
    body = (spi).to_bytes(8, "big") + (0 if exchange == 34 and not response else spi ^ 0xFFFF).to_bytes(
        8, "big"
    )
    body += bytes((33, 0x20, exchange, 0x20 if response else 0x08))
    body += message_id.to_bytes(4, "big") + (300).to_bytes(4, "big") + bytes(272)
    return Raw((bytes(4) if marker else b"") + body)


def registration(code: int | None, care_of: str, lifetime: int = 600) -> Raw:
    security = Extension(MOBILE_HOME, header(MOBILE_HOME, 256, 16)[2:] + bytes(range(16)))
    addresses = (IPv4Address(HOME), IPv4Address(HA))
    if code is None:
        message: Any = RegistrationRequest(
            0x22, lifetime, *addresses, IPv4Address(care_of), 9 << 32, (security,)
        )
    else:
        message = RegistrationReply(code, lifetime, *addresses, 9 << 32, (security,))
    return Raw(message.encode())


def udp(source: str, target: str, port: int, payload: Any) -> Any:
    return IP(src=source, dst=target, id=1) / UDP(sport=port, dport=port) / payload


def dhcp(kind: str, source: str, target: str, offered: str = "0.0.0.0") -> Any:
    ports = UDP(sport=68, dport=67) if source == "0.0.0.0" else UDP(sport=67, dport=68)
    client = bytes.fromhex(MAC["mn"].replace(":", ""))
    options = [("message-type", kind), ("server_id", "198.51.100.129"), "end"]
    return (
        IP(src=source, dst=target, id=1)
        / ports
        / BOOTP(op=1, yiaddr=offered, chaddr=client)
        / DHCP(options=options)
    )


def esp(at: float, wire: Wire, number: int, *, inbound: bool, spi: int, size: int = 120) -> None:
    ends = (GW, AIRPORT) if inbound else (AIRPORT, GW)
    packet = udp(*ends, 4500, Raw(bytes(ESP(spi=spi, seq=number, data=bytes(size)))))
    if inbound:
        wire.send(at, packet, "gw-internet", "mn-airport", sender="gw", receiver="mn")
    else:
        wire.send(at, packet, "mn-airport", "gw-internet")


def colocated(wire: Wire) -> None:
    """DHCP, IKE, a registration through ESP, and half a second of probe packets."""
    router = {"sender": "airport-router", "receiver": "mn"}
    wire.send(0.030, dhcp("discover", "0.0.0.0", "255.255.255.255"), "mn-airport")
    wire.send(0.034, dhcp("offer", "198.51.100.129", AIRPORT, AIRPORT), "mn-airport", **router)
    wire.send(0.036, dhcp("request", "0.0.0.0", "255.255.255.255"), "mn-airport")
    wire.send(0.039, dhcp("ack", "198.51.100.129", AIRPORT, AIRPORT), "mn-airport", **router)
    spi = 0x1C0DE5A17E57BED0
    for at, exchange, number, port in ((0.060, 34, 0, 500), (0.110, 35, 1, 4500)):
        marker = port == 4500
        out = ike(exchange, response=False, message_id=number, spi=spi, marker=marker)
        back = ike(exchange, response=True, message_id=number, spi=spi, marker=marker)
        wire.send(at, udp(AIRPORT, GW, port, out), "mn-airport", "gw-internet")
        packet = udp(GW, AIRPORT, port, back)
        wire.send(at + 0.024, packet, "gw-internet", "mn-airport", sender="gw", receiver="mn")
    inside = {"sender": "gw", "receiver": "r1"}
    esp(0.150, wire, 1, inbound=False, spi=0xC1A5E3F0)
    wire.send(0.165, udp(INNER, HA, 434, registration(None, INNER)), "ha-home", **inside)
    wire.send(0.167, udp(HA, INNER, 434, registration(0, INNER)), "ha-home", sender="ha", receiver="r1")
    esp(0.178, wire, 1, inbound=True, spi=0xC9D00D01)
    for n in range(100):
        at = 0.200 + n * 0.005
        esp(at, wire, n + 2, inbound=False, spi=0xC1A5E3F0, size=112)
        probe = IP(src=HOME, dst=CN, id=1) / UDP(sport=40000, dport=7) / Raw(b"probe" + bytes(27))
        wire.send(at + 0.012, IP(src=INNER, dst=HA, id=1) / probe, "ha-home", **inside)
        echo = IP(src=CN, dst=HOME, id=1) / UDP(sport=7, dport=40000) / Raw(b"probe" + bytes(27))
        wire.send(at + 0.016, IP(src=HA, dst=INNER, id=1) / echo, "ha-home", sender="ha", receiver="r1")
        esp(at + 0.018, wire, n + 2, inbound=True, spi=0xC9D00D01, size=112)
    arp = ARP(op=2, psrc=HA, pdst="10.0.1.1", hwsrc=MAC["ha"])
    frame = bytes(Ether(src=MAC["ha"], dst=MAC["r1"]) / arp)
    wire.taps["ha-home"].append((START + 0.164, frame))


def advertisement(at: float, wire: Wire, number: int) -> None:
    agent = MobilityAgentExtension(number, 600, 0x9100, (IPv4Address("203.0.113.10"),))
    advert = AgentAdvertisement(3, ((IPv4Address("198.51.100.1"), 0),), agent, (26,))
    packet = IP(src="198.51.100.1", dst="224.0.0.1", ttl=1, proto=1, id=1) / Raw(advert.encode())
    wire.send(at, packet, "fa-hotspot-hotspot", sender="fa-hotspot", receiver="mn")
    wire.taps.setdefault("mn-hotspot", []).append(
        (
            START + at + 0.001,
            bytes.fromhex("0800 0000 00000008 0001 01 06")
            + bytes.fromhex(MAC["fa-hotspot"].replace(":", ""))
            + bytes(2)
            + bytes(packet),
        )
    )


def foreign_agent(wire: Wire, *, answered: bool) -> None:
    """The request goes through the foreign agent in clear; nobody (or the home agent) answers."""
    for n in range(4):
        advertisement(0.05 + n, wire, n)
    wire.tap("gw-backbone")
    wire.tap("gw-internet")
    for at in (0.08, 1.08, 3.08):
        request = udp(HOME, "198.51.100.1", 434, registration(None, "203.0.113.10"))
        wire.send(at, request, "mn-hotspot", "fa-hotspot-hotspot", receiver="fa-hotspot")
        relayed = udp("203.0.113.10", HA, 434, registration(None, "203.0.113.10"))
        wire.send(at + 0.004, relayed, "fa-hotspot-internet", sender="fa-hotspot", receiver="core")
        if answered:
            break
        quoted = IP(src="203.0.113.10", dst=HA) / UDP(sport=434, dport=434)
        error = IP(src="203.0.113.1", dst="203.0.113.10", id=1) / ICMP(type=3, code=1) / quoted
        wire.send(at + 0.03, error, "fa-hotspot-internet", sender="core", receiver="fa-hotspot")
    code = 0 if answered else 78
    reply = udp("198.51.100.1", HOME, 434, registration(code, "203.0.113.10"))
    wire.send(
        0.15 if answered else 5.1,
        reply,
        "fa-hotspot-hotspot",
        "mn-hotspot",
        sender="fa-hotspot",
        receiver="mn",
    )


def blocked(wire: Wire) -> None:
    """IKE of a node that is not registered: sent, and never seen at the gateway."""
    wire.tap("gw-internet")
    for at in (0.1, 0.6, 1.6, 3.6):
        out = ike(34, response=False, message_id=0, spi=0xABCDEF, marker=False)
        wire.send(at, udp(HOME, GW, 500, out), "mn-hotspot", "fa-hotspot-hotspot", receiver="fa-hotspot")


def many_moves(wire: Wire) -> None:
    """Twelve moves, each with its own IKE: a ladder too long to be shown at once."""
    for n in range(12):
        at = n * 1.5
        for exchange, number, port in ((34, 0, 500), (35, 1, 4500)):
            for response in (False, True):
                message = ike(
                    exchange, response=response, message_id=number, spi=0x5EED0000 + n, marker=port == 4500
                )
                if response:
                    packet = udp(GW, AIRPORT, port, message)
                    wire.send(at + 0.07, packet, "gw-internet", "mn-airport", sender="gw", receiver="mn")
                else:
                    wire.send(at + 0.05, udp(AIRPORT, GW, port, message), "mn-airport", "gw-internet")


def jsonl(path: Path, lines: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def event(at: float, node: str, source: str, name: str, **fields: Any) -> dict[str, Any]:
    return {"node": node, "event": name, "source": source, "monotonic": 50 + at, "wall": START + at, **fields}


def roaming(network: str, began: float, *steps: tuple[str, str, float]) -> list[dict[str, Any]]:
    return [
        event(began + at, "mn", "roam", name, network=network, ms=at * 1000, detail=detail)
        for name, detail, at in steps
    ]


def write_run(folder: Path, wire: Wire, events: list[dict[str, Any]], steps: list[dict[str, Any]]) -> None:
    wire.write(folder)
    jsonl(folder / "events.jsonl", events)
    jsonl(folder / "steps.jsonl", steps)
    taps = {tap: {"file": f"captures/{tap}.pcap", "alive": True, "dropped": 0} for tap in wire.taps}
    (folder / "captures.json").write_text(json.dumps({"taps": taps}))
    look = {
        "place": "expect/0",
        "word": "binding",
        "began": START + 0.2,
        "ended": START + 0.3,
        "events": len(events),
        "captured": {tap: len(frames) for tap, frames in wire.taps.items()},
        "seen": {"bindings": []},
        "error": None,
    }
    jsonl(folder / "observations.jsonl", [look])
    record = {
        "claim": folder.parent.name,
        "run": folder.name,
        "lab": "verify-b" if folder.name == "control" else "verify-a",
        "topology": "topologies/plain-mip.yaml" if folder.name == "control" else "topology.yaml",
        "began": START - 2,
        "ended": START + 6,
        "marked": True,
        "counters": {"ha": {"registrations-accepted": 0}},
        "logs_ended": [],
        "health": {"late_ms": 1.2, "cpu_pressure_percent": 4.0, "clock_step_ms": 0.0, "dropped": 0},
        "error": None,
        "notes": [],
    }
    (folder / "run.json").write_text(json.dumps(record))


def step(text: str, began: float, ended: float) -> dict[str, Any]:
    return {
        "step": text.split()[0],
        "text": text,
        "began": START + began,
        "ended": START + ended,
        "result": "ok",
    }


def finding(run: str, text: str, held: bool | None, observed: str, *files: str) -> dict[str, Any]:
    return {"run": run, "expectation": text, "held": held, "observed": observed, "files": list(files)}


def facts(verdict: str, lab: str, *notes: str, error: str | None = None) -> dict[str, Any]:
    return {"verdict": verdict, "lab": lab, "seconds": 4.21, "notes": list(notes), "error": error}


def claims() -> Iterator[dict[str, Any]]:
    yield {
        "id": "2.1-colocated-registers",
        "verdict": "reproduced",
        "source": "§2.1(2), §4.1, Fig. 8",
        "says": "Co-located, MIPv4 inside IPsec registers through ESP; outside only IKE and ESP are seen.",
        "configuration": {"stack": "mip-in-ipsec", "attachment": "co-located"},
        "run": facts("held", "verify-a"),
        "control": facts("held", "verify-b"),
        "evidence": [
            finding(
                "main",
                "at mn/airport nothing but IKE, ESP, DHCP and ARP",
                True,
                "0 packets of 210",
                "claims/2.1-colocated-registers/main/captures/mn-airport.pcap",
            ),
            finding("main", "at ha/home at least 2 packets udp port 434", True, "2 packets"),
            finding("main", "ha has a binding for mn", True, "10.0.1.100 at 10.0.250.1, 600 s"),
            finding("control", "at mn/hotspot the registration is read in clear", True, "1 packet"),
        ],
        "reason": "",
    }
    yield {
        "id": "2.1-colocated-renegotiates",
        "verdict": "reproduced",
        "source": "§2.1(2), §4.1, §4.3",
        "says": "Each of N moves between DHCP networks costs a new IKE negotiation before registration.",
        "configuration": {"stack": "mip-in-ipsec", "attachment": "co-located"},
        "run": facts("held", "verify-a"),
        "control": facts("held", "verify-c"),
        "evidence": [finding("main", "12 IKE_SA_INIT and 12 IKE_AUTH at gw/internet", True, "12 and 12")],
        "reason": "",
    }
    yield {
        "id": "2.1-fa-cleartext-no-help",
        "verdict": "refuted",
        "source": "§4.2; RFC 4093 §4.2",
        "says": "With bypass the FA gets the request in clear, relays it, and still cannot reach the HA.",
        "configuration": {"stack": "mip-in-ipsec", "attachment": "foreign-agent"},
        "run": facts("failed", "verify-a", "the policy without bypass is emulated by nftables"),
        "control": facts("held", "verify-b"),
        "evidence": [
            finding("main", "registration ends in a timeout or a code of the FA", True, "code 78"),
            finding("main", "ha has no binding for mn", False, "a binding <10.0.1.100> & more"),
            finding("control", "ha has a binding for mn", True, "10.0.1.100 at 203.0.113.10"),
        ],
        "reason": "ha has no binding for mn: a binding <10.0.1.100> & more",
    }
    yield {
        "id": "2.1-fa-blocks-ipsec",
        "verdict": "inconclusive",
        "source": "§4.2",
        "says": "A not-yet-registered MN's IKE and ESP are not forwarded by the FA.",
        "configuration": None,
        "run": facts("undecided", "verify-a", error="mn: the probe did not start within 8 s"),
        "control": None,
        "evidence": [
            finding("main", "IKE at fa-hotspot/hotspot, none at gw/internet", None, "no packets at all")
        ],
        "reason": "the control did not take place",
    }


def handoff() -> dict[str, Any]:
    dice = random.Random(4093)
    runs = []
    for stack, k, constant, places in (
        ("mip-in-ipsec", 4.0, 62.0, ["hotel", "airport"]),
        ("mip-only", 1.0, 21.0, ["campus", "office"]),
    ):
        for rtt in (0, 40, 100, 200):
            moves = []
            for n in range(12):
                link, address = 3 + dice.random(), 9 + 4 * dice.random()
                ike_done = address + 2 * rtt + 18 + 6 * dice.random() if k == 4 else None
                registered = (ike_done or address) + rtt + 4 + 3 * dice.random()
                data = registered + rtt + 2
                moves.append(
                    {
                        "from": places[n % 2],
                        "to": places[1 - n % 2],
                        "outage_ms": k * rtt + constant + dice.gauss(0, 6),
                        "lost": round((k * rtt + constant) / 5),
                        "timeline": {
                            "link": link,
                            "address": address,
                            "ike": ike_done,
                            "registration": registered,
                            "data": data,
                        },
                        "ike_messages": 4 if k == 4 else 0,
                        "ike_bytes": 2212 if k == 4 else 0,
                        "mip_messages": 2,
                        "mip_bytes": 148,
                    }
                )
            own = {
                "measured_rtt_ms": rtt + 1.4,
                "round_trips": int(k),
                "reaction_ms": constant - 1.4 * k,
                "budget_ms": 30.0,
            }
            runs.append({"stack": stack, "between": places, "rtt_ms": rtt, **own, "moves": moves})
    fit = {
        "mip-in-ipsec": {"k": 4.01, "constant_ms": 61.7},
        "mip-only": {"k": 0.99, "constant_ms": 21.4},
    }
    return {"schema_version": 2, "scenario": "scenario-2.1", "runs": runs, "fit": fit}


def write_sample(folder: Path) -> Path:
    """Write the whole folder; returns it. It is made once in a process, as scapy takes its time."""
    return shutil.copytree(_made().name, folder, copy_function=shutil.copyfile, dirs_exist_ok=True)


@cache
def _made() -> TemporaryDirectory[str]:
    made = TemporaryDirectory()
    _make(Path(made.name))
    return made


def _make(folder: Path) -> None:
    (folder / "topology.yaml").write_text(load_topology("scenario-2.1").text())
    versions = {
        "schema_version": 2,
        "testbed": "0.1.0",
        "engine": {"name": "Docker Engine", "version": "20.10.24", "kernel": "6.1.0"},
        "image": "testbed-node:abc",
        "programs": {"strongswan-charon": "6.0.1"},
    }
    (folder / "versions.json").write_text(json.dumps(versions))
    verdicts = {
        "schema_version": 2,
        "scenario": "scenario-2.1",
        "backends": {
            "verify-a": {"topology": "scenario-2.1", "core/relay": "relay", "ha/home-agent": "tun"},
            "verify-b": {"topology": "plain-mip", "core/relay": "tc", "ha/home-agent": "tun"},
        },
        "claims": list(claims()),
    }
    (folder / "verdicts.json").write_text(json.dumps(verdicts, indent=1))
    (folder / "handoff.json").write_text(json.dumps(handoff()))
    base = folder / "claims"

    wire = Wire()
    colocated(wire)
    arrival = roaming(
        "airport",
        0.0,
        ("link", "", 0.012),
        ("address", AIRPORT, 0.041),
        ("ike", "established", 0.137),
        ("registered", "co-located", 0.186),
        ("data", "", 0.214),
        ("settled", "registered", 0.215),
    )
    start = [event(-0.7, "mn", "roam", "link", network="hotel", ms=9.0)]
    binding = event(0.166, "ha", "home-agent", "binding", home_address=HOME, care_of=INNER, lifetime=600)
    write_run(
        base / "2.1-colocated-registers/main",
        wire,
        [*start, *arrival, binding, event(-1, "mn", "init", "configured")],
        [step("move to airport", 0.0, 0.215), step("probe start", 0.19, 0.2)],
    )
    wire = Wire()
    foreign_agent(wire, answered=True)
    write_run(
        base / "2.1-colocated-registers/control",
        wire,
        roaming("hotspot", 0, ("link", "", 0.01), ("registered", "foreign-agent", 0.16)),
        [step("move to hotspot", 0, 0.2)],
    )
    wire = Wire()
    many_moves(wire)
    moves = [
        line
        for n in range(12)
        for line in roaming(
            ("airport", "hotel")[n % 2],
            n * 1.5,
            ("link", "", 0.01),
            ("registered", "", 0.2),
            ("settled", "", 0.22),
        )
    ]
    write_run(
        base / "2.1-colocated-renegotiates/main",
        wire,
        moves,
        [step(f"move to {('airport', 'hotel')[n % 2]}", n * 1.5, n * 1.5 + 0.22) for n in range(12)],
    )
    wire = Wire()
    foreign_agent(wire, answered=False)
    failed = event(
        5.12, "mn", "mobile-node", "registration-failed", reason="fa-registration-timeout", code=78
    )
    write_run(
        base / "2.1-fa-cleartext-no-help/main",
        wire,
        [*roaming("hotspot", 0, ("link", "", 0.01)), failed],
        [step("register through hotspot", 0.0, 5.13)],
    )
    wire = Wire()
    blocked(wire)
    write_run(base / "2.1-fa-blocks-ipsec/main", wire, [], [step("move to hotspot", 0, 4.0)])

    (folder / "topologies").mkdir()
    (folder / "topologies/plain-mip.yaml").write_text(load_topology("plain-mip").text())


if __name__ == "__main__":
    import sys

    write_sample(Path(sys.argv[1]))
