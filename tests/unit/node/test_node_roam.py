"""The connection manager with the kernel, DHCP and charon played by the test, over real control sockets."""

import asyncio
import contextlib
import json
from ipaddress import IPv4Address, IPv4Interface

import pytest
import virtual_time

from testbed.mobileip.io.control import RequestError
from testbed.mobileip.io.errors import ConfigError
from testbed.mobileip.io.journal import Journal
from testbed.node.roam import manager as manager_module
from testbed.node.roam.links import Lease, LinkError
from testbed.node.roam.manager import Manager
from testbed.node.roam.mobile_ip import MobileIp
from testbed.node.roam.monitor import Monitor
from testbed.node.roam.node import Node
from testbed.node.roam.roam_toml import load
from testbed.node.roam.vpn import Tunnel, VpnError
from testbed.node.serving import serve

CONFIG = """
stack = "{stack}"
home-address = "10.0.1.100"
monitor = {monitor}
{more}
[networks.hotel]
trusted = false
[networks.airport]
trusted = false
[networks.hotspot]
trusted = false
[networks.nowhere]
trusted = false
[networks.campus]
trusted = true
[networks.home]
trusted = true
[ipsec]
gateway = "203.0.113.2"
protects = ["10.0.0.0/8"]
psk = "secret"
local-id = "mn"
remote-id = "gw"
[bounds]
address = 0.3
ike = 0.3
registration = 0.3
"""
INNER = "10.0.250.1"
ADDRESSES = {"hotel": "198.51.100.70/26", "airport": "198.51.100.140/26", "campus": "10.0.3.100/24"}


class Links:
    """Keeps a list of what was done."""

    def __init__(self):
        self.done = []
        self.carried = []  # links that are up, and nobody here made them so
        self.inner = None
        self.gone = []  # links that there are no more

    def reset(self, interfaces):
        self.done.append("reset")

    def up(self, interface):
        self.done.append(f"up {interface}")

    def down(self, interface):
        self.done.append(f"down {interface}")

    def is_up(self, interface):
        if interface in self.gone:
            raise LinkError(f"no interface {interface}")
        moved = [step.split() for step in self.done if step.split()[-1] == interface and " " in step]
        return interface in self.carried or (bool(moved) and moved[-1][0] == "up")

    def use_lease(self, lease):
        self.done.append(f"lease {lease.address}")

    def drop_lease(self, routes=True):
        if self.gone and routes:
            raise LinkError(f"no interface {self.gone[0]}")
        self.done.append("drop")

    def keep_ike_outside(self):
        self.done.append("keep")

    def use_inner(self, address):
        self.inner = str(address) if address else None

    def steer(self, prefixes, source, into_ipsec):
        self.done.append(f"steer {into_ipsec}")


class Dhcp:
    """Leases where ADDRESSES has one."""

    def __init__(self):
        self.delay = self.stalls = 0.0

    def watch(self, lost):
        self.lost = lost

    def stop(self):
        pass

    async def lease(self, interface):
        await asyncio.sleep(self.delay)
        if interface not in ADDRESSES:
            await asyncio.Event().wait()
        virtual_time.stall(self.stalls)
        address = IPv4Interface(ADDRESSES[interface])
        return Lease(interface, address, next(address.network.hosts()))


class Vpn:
    """Negotiates at once; `problem` says otherwise."""

    def __init__(self):
        self.tunnel = None
        self.in_kernel = False
        self.negotiated = []
        self.destroyed = 0
        self.problem = None
        self.follows = False
        self.followed = []
        self.stays = False  # where it does not follow

    async def run(self, lost):
        self.lost = lost
        await asyncio.Event().wait()

    async def establish(self, local, inner, bound, answer):
        self.negotiated.append(str(local))
        if self.problem is not None:
            raise VpnError(self.problem)
        self.tunnel = Tunnel(local, IPv4Address(INNER) if inner is None else None)
        return self.tunnel

    async def destroy(self):
        self.tunnel = None
        self.destroyed += 1

    def leave(self):
        self.followed.append("leave")

    async def follow(self, local, bound):
        self.followed.append(str(local))
        if self.stays:
            raise VpnError("mobike-timeout")
        self.tunnel = Tunnel(local, self.tunnel.inner)
        return self.tunnel


class Policy:
    """Who is inside, and until when by the clock of the event loop."""

    def __init__(self):
        self.inside, self.until = set(), 0.0
        self.problem = None
        self.links = []

    def join(self, link):
        self.links.append(link)

    def admit(self, addresses, seconds):
        self.inside = {str(address) for address in addresses}
        self.until = asyncio.get_running_loop().time() + seconds

    def close(self):
        if self.problem is not None:
            raise LinkError(self.problem)
        self.inside = set()


class MobileIpDaemon:
    """Answers as the daemon does: an agent at the hotspot, home at home, a home agent that grants."""

    def __init__(self, path):
        self.path, self.requests = str(path), []
        self.journal = Journal("mobile-node")
        self.grants = True
        self.inside, self.trusted, self.where, self.registered = (), True, None, None

    def start(self):
        self.server = serve(self.path, self.journal, self.handle)

    def tell(self, name, **fields):
        self.journal.tell(name, fields)

    async def handle(self, request, client):
        match request["op"]:
            case "detach":
                self.tell("at-home", agent="192.0.2.1")  # both of the past
                self.tell("registered", mode="co-located", care_of=INNER, requested=virtual_time.now())
                self.tell("detached")
            case "attach":
                self.where = request["interface"]
                self.answer("co-located", request["care_of"], None)
            case "discover":
                self.discover(request["interface"], request["register"])
            case "renew":
                if self.registered is None:
                    raise RequestError("there is no registration to renew")
                self.answer(*self.registered)
            case "detect":
                self.detect(request["interface"], request.get("care_of"))
            case "deregister":
                self.tell("deregistered", mode="co-located", requested=virtual_time.now())
        self.requests.append(tuple(value for value in request.values()))
        return {}

    def discover(self, interface, register):
        self.where = interface
        agents = {"hotspot": ("198.51.100.1", "203.0.113.10"), "office": ("10.0.2.1", "10.0.0.4")}
        if interface in agents:
            agent, care_of = agents[interface]
            self.tell("agent-advertisement", agent=agent, care_of=care_of, foreign_agent=True, busy=False)
            if register:
                self.tell("request-sent", mode="foreign-agent", care_of=care_of, destination=agent)
                self.answer("foreign-agent", care_of, agent)
        elif interface == "home":
            self.tell("agent-advertisement", agent="10.0.1.2", care_of=None, foreign_agent=False, busy=False)
            self.tell("at-home", agent="10.0.1.2")
            proof = {"interface": interface, "trusted": True, "requested": virtual_time.now()}
            self.tell("deregistered", mode="home", **proof)

    def detect(self, interface, care_of):
        """What the home agent inside answers over the network itself; INSIDE is where it does."""
        modes = {"home": "home", "office": "foreign-agent"} if care_of is None else {interface: "co-located"}
        if interface in self.inside and interface in modes:
            self.tell(
                "detected",
                interface=interface,
                inside=self.trusted,
                mode=modes[interface],
                care_of=care_of,
                agent="10.0.2.1",
                code=0,
            )

    def answer(self, mode, care_of, agent):
        self.registered = mode, care_of, agent
        if self.grants:
            proof = {"interface": self.where, "trusted": True, "requested": virtual_time.now()}
            self.tell("registered", mode=mode, care_of=care_of, agent=agent, **proof)
        elif self.grants is False:
            self.tell("registration-failed", code=131, reason="mobile node failed authentication")


class Lab:
    """A manager and all it speaks to."""

    def __init__(self, folder, stack, more="", monitor=60):
        file = folder / "roam.toml"
        file.write_text(CONFIG.format(stack=stack, more=more, monitor=monitor))
        with file.open("a") as stream:
            stream.write(f'[mobile-ip]\ncontrol = "{folder}/mip.sock"\n')
        config = load(file)
        self.path = str(folder / "roam.sock")
        self.links, self.dhcp = Links(), Dhcp()
        self.vpn = Vpn() if stack != "mip-only" else None
        self.daemon = MobileIpDaemon(folder / "mip.sock")
        mobile_ip = MobileIp(config.mobile_ip)
        self.policy = Policy()
        monitor = Monitor(self.policy, mobile_ip, config.home_address, config.monitor)
        monitor = monitor if self.vpn is not None else None
        self.node = Node(config, self.links, self.dhcp, mobile_ip, self.vpn, monitor, self.vpn is not None)
        self.manager = Manager(self.node)

    async def __aenter__(self):
        self.daemon.start()
        self.server = serve(self.path, self.manager.journal, self.manager.handle)
        self.running = asyncio.create_task(self.manager.run())
        self.reader, self.writer = await asyncio.open_unix_connection(self.path)
        while not self.node.mobile_ip.connected or not self.daemon.journal._listeners:
            await asyncio.sleep(0.005)
        return self

    async def __aexit__(self, *_):
        self.running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.running
        self.writer.close()
        self.server.close()
        self.daemon.server.close()

    async def line(self):
        return json.loads(await asyncio.wait_for(self.reader.readline(), 5))

    def ask(self, op, **fields):
        self.writer.write(json.dumps({"op": op, **fields}).encode() + b"\n")

    async def until_settled(self):
        events = []
        while not events or events[-1].get("event") != "settled":
            events.append(await self.line())
        return events

    async def move(self, network):
        self.ask("move", network=network)
        return (await self.until_settled())[-1]

    async def state(self):
        self.ask("state")
        return await self.line()


def in_lab(tmp_path, stack, scenario, more="", monitor=60):
    async def run():
        async with Lab(tmp_path, stack, more, monitor) as lab:
            await scenario(lab)

    virtual_time.run(run())


def test_mip_in_ipsec_negotiates_anew_at_every_move_and_registers_the_inner_address(tmp_path):
    async def scenario(lab):
        lab.dhcp.delay = 0.02
        lab.ask("move", network="hotel")
        events = await lab.until_settled()
        assert [event.get("event") for event in events[1:]] == [
            "move-started", "link", "address", "ike-started", "ike", "registered", "settled",
        ]  # fmt: skip
        settled = events[-1]
        assert (settled["state"], settled["network"]) == ("registered", "hotel")
        times = [settled["timeline"][step] for step in ("link", "address", "ike", "registration")]
        assert times == sorted(times)
        assert settled["timeline"]["data"] is None
        assert ("attach", "ipsec0", INNER) in lab.daemon.requests
        assert ("discover", "hotel", False) in lab.daemon.requests
        await lab.move("airport")
        assert lab.vpn.negotiated == ["198.51.100.70", "198.51.100.140"]
        done = lab.links.done
        assert done.index("down hotel") < done.index("up airport")

    in_lab(tmp_path, "mip-in-ipsec", scenario)


def test_no_ipsec_on_a_trusted_network_nor_at_home(tmp_path):
    async def scenario(lab):
        settled = await lab.move("campus")
        assert settled["detail"] == "co-located, care-of 10.0.3.100"
        assert ("attach", "campus", "10.0.3.100") in lab.daemon.requests
        settled = await lab.move("home")
        assert (settled["state"], settled["detail"]) == ("at-home", "deregistered")
        assert lab.vpn.negotiated == []

    in_lab(tmp_path, "mip-in-ipsec", scenario)


def test_behind_an_agent_alone_ipsec_is_tried_and_nothing_registered(tmp_path):
    async def scenario(lab):
        lab.vpn.problem = "ike-timeout"
        settled = await lab.move("hotspot")
        assert (settled["state"], settled["detail"]) == ("unregistered", "ike-timeout")
        assert lab.vpn.negotiated == ["10.0.1.100"]
        assert settled["timeline"]["registration"] is None
        assert not any(request[0] == "attach" for request in lab.daemon.requests)

    in_lab(tmp_path, "mip-in-ipsec", scenario)


def test_an_address_beats_an_agent_that_ipsec_cannot_pass(tmp_path, monkeypatch):
    monkeypatch.setitem(ADDRESSES, "hotspot", "198.51.100.5/26")

    async def scenario(lab):
        lab.dhcp.delay = 0.05
        settled = await lab.move("hotspot")
        assert settled["detail"] == f"co-located, care-of {INNER}"

    in_lab(tmp_path, "mip-in-ipsec", scenario)


@pytest.mark.parametrize(
    ("network", "problem"), [("airport", "ike-timeout"), ("nowhere", None), ("campus", None)]
)
def test_the_inner_address_goes_with_its_security_association(tmp_path, network, problem):
    async def scenario(lab):
        await lab.move("hotel")
        assert lab.links.inner == INNER
        lab.vpn.problem = problem
        await lab.move(network)
        assert lab.vpn.tunnel is None and lab.links.inner is None

    in_lab(tmp_path, "mip-in-ipsec", scenario)


def test_a_security_association_that_cannot_be_had_again(tmp_path):
    async def scenario(lab):
        await lab.move("hotel")
        lab.ask("subscribe")
        assert (await lab.line())["ok"]
        lab.vpn.problem, lab.vpn.tunnel = "ike-timeout", None
        lab.vpn.lost()
        assert (await lab.until_settled())[-1]["detail"] == "ike-timeout"
        assert lab.links.inner is None

    in_lab(tmp_path, "mip-in-ipsec", scenario)


def test_a_security_association_is_asked_for_until_it_can_be_had_again(tmp_path, monkeypatch):
    monkeypatch.setattr(manager_module, "REPAIR_PAUSE", 0.05)

    async def scenario(lab):
        await lab.move("hotel")
        lab.ask("subscribe")
        assert (await lab.line())["ok"]
        lab.vpn.problem, lab.vpn.tunnel = "ike-timeout", None
        lab.vpn.lost()
        for _ in range(3):
            assert (await lab.until_settled())[-1]["detail"] == "ike-timeout"
        lab.vpn.problem = None
        assert (await lab.until_settled())[-1]["state"] == "registered"
        negotiated = len(lab.vpn.negotiated)
        await asyncio.sleep(0.2)
        assert len(lab.vpn.negotiated) == negotiated

    in_lab(tmp_path, "mip-in-ipsec", scenario)


def test_mip_only_through_an_agent(tmp_path):
    async def scenario(lab):
        settled = await lab.move("hotspot")
        assert settled["detail"] == "through 198.51.100.1, care-of 203.0.113.10"
        assert ("discover", "hotspot", True) in lab.daemon.requests

    in_lab(tmp_path, "mip-only", scenario)


def test_ipsec_in_mip_negotiates_once_from_the_home_address(tmp_path):
    async def scenario(lab):
        settled = await lab.move("hotel")
        assert settled["timeline"]["registration"] <= settled["timeline"]["ike"]
        for network, state in (("hotspot", "registered"), ("home", "at-home"), ("campus", "registered")):
            assert (await lab.move(network))["state"] == state
        assert lab.vpn.negotiated == ["10.0.1.100"]
        assert [done for done in lab.links.done if done.startswith("steer")] == [
            "steer True", "steer False", "steer True",
        ]  # fmt: skip

    in_lab(tmp_path, "ipsec-in-mip", scenario)


@pytest.mark.parametrize(
    ("grants", "detail"),
    [
        (False, "registration-failed: mobile node failed authentication (code 131)"),
        (None, "registration-timeout"),
    ],
)
def test_a_registration_that_fails_is_told_as_it_is(tmp_path, grants, detail):
    async def scenario(lab):
        lab.daemon.grants = grants
        settled = await lab.move("hotel")
        assert (settled["state"], settled["detail"]) == ("unregistered", detail)

    in_lab(tmp_path, "mip-only", scenario)


def test_a_network_without_anything_settles_too(tmp_path):
    async def scenario(lab):
        settled = await lab.move("nowhere")
        assert settled["state"] == "unregistered"
        assert settled["detail"].startswith("no-address")

    in_lab(tmp_path, "mip-only", scenario)


def test_an_address_that_came_while_the_machine_was_busy_counts(tmp_path):
    async def scenario(lab):
        lab.dhcp.stalls = 1.0  # longer than an address is waited for
        assert (await lab.move("hotel"))["state"] == "registered"

    in_lab(tmp_path, "mip-only", scenario)


def test_a_new_move_supersedes_the_one_under_way(tmp_path):
    async def scenario(lab):
        lab.ask("move", network="nowhere")
        while (await lab.line()).get("event") != "link":
            pass
        lab.ask("move", network="hotel")
        first, second = (await lab.until_settled())[-1], (await lab.until_settled())[-1]
        assert (first["network"], first["detail"]) == ("nowhere", "superseded")
        assert (second["network"], second["state"]) == ("hotel", "registered")

    in_lab(tmp_path, "mip-only", scenario)


def test_a_late_registration_changes_the_state(tmp_path):
    async def scenario(lab):
        lab.daemon.grants = None
        assert (await lab.move("hotel"))["state"] == "unregistered"
        lab.daemon.tell("registered", mode="co-located", care_of="198.51.100.70")
        while (event := await lab.line()).get("event") != "state":
            pass
        assert event["state"] == "registered"
        assert (await lab.state())["state"] == "registered"

    in_lab(tmp_path, "mip-only", scenario)


def test_ipsec_down_registers_in_the_clear_and_up_goes_back(tmp_path):
    async def scenario(lab):
        await lab.move("hotel")
        lab.ask("ipsec", action="down")
        assert (await lab.until_settled())[-1]["detail"] == "co-located, care-of 198.51.100.70"
        assert (await lab.state())["ipsec"] == {"enabled": False, "up": False, "inner": None}
        assert lab.links.inner is None
        lab.ask("ipsec", action="up")
        assert (await lab.until_settled())[-1]["detail"] == f"co-located, care-of {INNER}"
        assert lab.links.done.count("up hotel") == 1

    in_lab(tmp_path, "mip-in-ipsec", scenario)


@pytest.mark.parametrize(
    ("stack", "network", "negotiated", "detail"),
    [
        ("mip-only", "hotel", None, "co-located, care-of 198.51.100.70"),
        ("mip-only", "hotspot", None, "through 198.51.100.1, care-of 203.0.113.10"),
        ("mip-in-ipsec", "hotel", ["198.51.100.70"] * 2, f"co-located, care-of {INNER}"),
        ("mip-in-ipsec", "home", [], "deregistered"),
        ("ipsec-in-mip", "hotel", ["10.0.1.100"] * 2, "co-located, care-of 198.51.100.70"),
    ],
)
def test_repair_negotiates_and_registers_anew_without_leaving_the_network(
    tmp_path, monkeypatch, stack, network, negotiated, detail
):
    async def reply(source, destination):
        pass

    monkeypatch.setattr(manager_module, "first_reply", reply)

    async def scenario(lab):
        await lab.move(network)
        lab.daemon.requests.clear()
        lab.ask("repair")
        assert (await lab.line()) == {"ok": True, "network": network}
        events = await lab.until_settled()
        assert events[0]["event"] == "move-started" and events[0]["reason"] == "repair"
        assert [event["event"] for event in events[-2:]] == ["data", "settled"], events
        assert events[-1]["detail"] == detail and events[-1]["timeline"]["link"] is None
        assert any(request[0] in ("attach", "discover") for request in lab.daemon.requests)
        assert lab.links.done.count(f"up {network}") == 1
        assert (lab.vpn.negotiated if lab.vpn else None) == negotiated

    in_lab(tmp_path, stack, scenario, 'probe = "10.0.4.10"')


@pytest.mark.parametrize("stack", ["mip-only", "mip-in-ipsec", "ipsec-in-mip"])
def test_what_is_forgotten_is_not_repaired(tmp_path, monkeypatch, stack):
    monkeypatch.setattr(manager_module, "REPAIR_PAUSE", 0.05)

    async def scenario(lab):
        await lab.move("hotel")
        if lab.vpn is not None:
            lab.vpn.problem, lab.vpn.tunnel = "ike-timeout", None
            lab.vpn.lost()  # there would be an attempt every 50 ms
        lab.ask("forget")
        assert (await lab.line()) == {"ok": True}
        state = await lab.state()
        assert (state["state"], state["ipsec"]["up"], lab.links.inner) == ("unregistered", False, None)
        assert state["network"] == "hotel" and not state["moving"]
        if lab.vpn is not None:
            lab.vpn.lost()  # charon says that what was destroyed is down
        requests = len(lab.daemon.requests)
        await asyncio.sleep(0.2)
        assert len(lab.daemon.requests) == requests and lab.daemon.requests[-1][0] == "detach"
        if lab.vpn is not None:
            lab.vpn.problem = None
        await lab.move("airport")
        assert (await lab.state())["state"] == "registered"

    in_lab(tmp_path, stack, scenario)


@pytest.mark.parametrize("broken", ["tunnel", "lease"])
def test_what_breaks_underneath_is_done_again(tmp_path, broken):
    async def scenario(lab):
        await lab.move("hotel")
        lab.ask("subscribe")
        assert (await lab.line())["ok"]
        if broken == "tunnel":
            lab.vpn.tunnel = None
            lab.vpn.lost()
        else:
            lab.dhcp.lost()
        assert (await lab.until_settled())[-1]["state"] == "registered"
        assert len(lab.vpn.negotiated) == (2 if broken == "tunnel" else 1)

    in_lab(tmp_path, "mip-in-ipsec", scenario)


def test_at_start_it_is_patient(tmp_path, capfd):
    async def scenario(lab):
        lab.vpn.problem = "ike-failed: not configured yet"
        await asyncio.sleep(0.2)
        lab.vpn.problem = None
        while (await lab.state())["moving"]:
            await asyncio.sleep(0.01)
        assert (await lab.state())["state"] == "registered"
        events = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
        names = [event["event"] for event in events]
        assert (names.count("settled"), names.count("link"), names[-1]) == (1, 1, "ready")

    in_lab(tmp_path, "mip-in-ipsec", scenario, 'attach = "hotel"')


def test_the_first_data_packet_ends_the_timeline(tmp_path, monkeypatch):
    async def reply(source, destination):
        assert (str(source), str(destination)) == ("10.0.1.100", "10.0.4.10")

    monkeypatch.setattr(manager_module, "first_reply", reply)

    async def scenario(lab):
        timeline = (await lab.move("hotel"))["timeline"]
        assert timeline["registration"] <= timeline["data"]

    in_lab(tmp_path, "mip-in-ipsec", scenario, 'probe = "10.0.4.10"')


def test_inside_is_where_a_registration_is_granted(tmp_path):
    async def scenario(lab):
        lab.policy.inside = {"10.0.3.7"}  # as a predecessor left it; the manager closes it when it starts
        await lab.move("campus")
        assert lab.policy.inside == {"10.0.1.100", "10.0.3.100"}
        assert 59 < lab.policy.until - virtual_time.now() < 60
        await lab.move("home")
        assert lab.policy.inside == {"10.0.1.100"} and (await lab.state())["inside"]
        await lab.move("hotel")  # where it is granted through IPsec
        assert lab.policy.inside == set() and not (await lab.state())["inside"]
        lab.daemon.grants = None
        assert (await lab.move("campus"))["state"] == "unregistered"
        assert lab.policy.inside == set()
        lab.daemon.tell("registered", mode="co-located", care_of="10.0.3.100", requested=virtual_time.now())
        while not lab.policy.inside:
            await asyncio.sleep(0.01)
        lab.daemon.tell("detached")  # by whomever
        while lab.policy.inside:
            await asyncio.sleep(0.01)

    in_lab(tmp_path, "mip-in-ipsec", scenario)


def test_with_ipsec_inside_mip_home_alone_is_inside(tmp_path):
    async def scenario(lab):
        await lab.move("campus")
        assert lab.policy.inside == set()
        await lab.move("home")
        assert lab.policy.inside == {"10.0.1.100"}

    in_lab(tmp_path, "ipsec-in-mip", scenario)


def test_a_link_is_not_joined_while_data_cannot_be_stopped(tmp_path):
    async def scenario(lab):
        settled = await lab.move("campus")
        assert lab.policy.inside, settled
        lab.policy.problem = "IPsec policy: no such set"
        for network in ("hotel", "airport"):
            assert (await lab.move(network))["detail"] == "IPsec policy: no such set"
            assert f"up {network}" not in lab.links.done

    in_lab(tmp_path, "mip-in-ipsec", scenario)


def test_inside_it_registers_anew_in_time(tmp_path):
    async def scenario(lab):
        await lab.move("campus")
        until = lab.policy.until
        while lab.policy.until == until:
            await asyncio.sleep(0.01)
        assert ("renew",) in lab.daemon.requests
        assert lab.policy.inside and 0.2 < lab.policy.until - until < 3

    in_lab(tmp_path, "mip-in-ipsec", scenario, monitor=1.0)


def test_overdue_it_finds_out_anew_where_it_is(tmp_path):
    """It was carried: the link that is up is not the one it joined, and no name of a link is believed."""

    async def scenario(lab):
        await lab.move("campus")
        lab.ask("subscribe")
        assert (await lab.line())["ok"]
        lab.daemon.grants, lab.links.carried = None, ["hotel"]
        lab.links.done.append("down campus")
        events = await lab.until_settled()
        assert events[0]["event"] == "overdue" and lab.policy.inside == set()
        assert events[-1]["network"] == "hotel"
        assert lab.vpn.negotiated == ["198.51.100.70"]

    in_lab(tmp_path, "mip-in-ipsec", scenario, monitor=0.4)


def test_overdue_on_a_link_that_is_gone_it_looks_at_the_others(tmp_path):
    async def scenario(lab):
        await lab.move("campus")
        lab.ask("subscribe")
        assert (await lab.line())["ok"]
        lab.daemon.grants, lab.links.carried, lab.links.gone = None, ["hotel"], ["campus"]
        events = await lab.until_settled()
        assert events[0]["event"] == "overdue" and events[-1]["network"] == "hotel"

    in_lab(tmp_path, "mip-in-ipsec", scenario, monitor=0.4)


def test_a_lease_that_is_lost_with_its_link_is_asked_for_again(tmp_path):
    async def scenario(lab):
        await lab.move("hotel")
        lab.ask("subscribe")
        assert (await lab.line())["ok"]
        lab.links.gone = ["hotel"]
        lab.dhcp.lost()
        assert (await lab.until_settled())[-1]["network"] == "hotel"

    in_lab(tmp_path, "mip-only", scenario)


def test_overdue_on_a_link_that_did_not_change_it_settles_unregistered(tmp_path):
    async def scenario(lab):
        await lab.move("campus")
        lab.ask("subscribe")
        assert (await lab.line())["ok"]
        lab.daemon.grants = None
        settled = (await lab.until_settled())[-1]
        assert (settled["network"], settled["state"]) == ("campus", "unregistered")
        assert lab.policy.inside == set()

    in_lab(tmp_path, "mip-in-ipsec", scenario, monitor=0.4)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"op": "move", "network": "hotle"}, "unknown network 'hotle'; expected one of hotel"),
        ({"op": "ipsec", "action": "down"}, "not attached"),
        ({"op": "repair"}, "not attached"),
        ({"op": "jump"}, "unknown op 'jump'"),
        ([], "expected"),
    ],
)
def test_requests_that_make_no_sense(tmp_path, request_, error):
    async def scenario(lab):
        lab.writer.write(json.dumps(request_).encode() + b"\n")
        answer = await lab.line()
        assert not answer["ok"]
        assert error in answer["error"]

    in_lab(tmp_path, "mip-in-ipsec", scenario)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("mip-in-ipsec", "ipsec-only"), "stack: expected one of"),
        (("[ipsec]", "[tunnel]"), "missing table, needed by stack"),
        (("trusted = false", "trust = false"), r"toml:6: networks\.hotel\.trusted: is missing"),
        (('gateway = "203.0.113.2"', 'gateway = "gw"'), "gateway: "),
        (("10.0.0.0/8", "10.0.0.1/8"), "protects: "),
        (
            ('home-address = "10.0.1.100"', 'home-address = "10.0.1.100"\nattach = "x"'),
            "attach: no network 'x'",
        ),
    ],
)
def test_configuration_errors(tmp_path, change, problem):
    file = tmp_path / "roam.toml"
    file.write_text(CONFIG.format(stack="mip-in-ipsec", more="", monitor=60).replace(*change, 1))
    with pytest.raises(ConfigError, match=problem):
        load(file)
