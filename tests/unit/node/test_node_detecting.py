"""The connection manager where it finds out what is inside: with a home agent outside, and with MOBIKE."""

import asyncio
import contextlib

import pytest
import virtual_time
from test_node_roam import ADDRESSES, INNER, Lab, MobileIpDaemon

from testbed.mobileip.io.errors import ConfigError
from testbed.node.roam import detecting
from testbed.node.roam.mobile_ip import MobileIp
from testbed.node.roam.roam_toml import load

OUTER_HOME = "198.51.100.200"
MORE = f"""detection = 0
[outer]
home-address = "{OUTER_HOME}"
[networks.office]
trusted = false
"""
HOTEL, AIRPORT, CAMPUS = (ADDRESSES[name].partition("/")[0] for name in ("hotel", "airport", "campus"))


class TwoAgents(Lab):
    """With a daemon for the Mobile IP outside; `inside` is where the home agent inside answers."""

    def __init__(self, folder, stack="mip-in-ipsec-in-mip", inside=("campus", "office", "home")):
        super().__init__(folder, stack, MORE)
        self.daemon.inside = inside
        self.outer = MobileIpDaemon(folder / "x.sock") if stack == "mip-in-ipsec-in-mip" else None
        if self.outer is not None:
            self.node.outer = MobileIp(self.outer.path)
        self.vpn.follows = self.outer is None

    async def __aenter__(self):
        if self.outer is not None:
            self.outer.start()
        await super().__aenter__()
        while self.outer is not None and not (self.node.outer.connected and self.outer.journal._listeners):
            await asyncio.sleep(0.005)
        return self

    async def __aexit__(self, *error):
        await super().__aexit__(*error)
        if self.node.goodbye is not None:
            self.node.goodbye.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.node.goodbye
        if self.outer is not None:
            self.outer.server.close()


def in_lab(tmp_path, scenario, **changes):
    async def run():
        async with TwoAgents(tmp_path, **changes) as lab:
            await scenario(lab)

    virtual_time.run(run())


def test_outside_a_move_costs_a_registration_outside(tmp_path):
    async def scenario(lab):
        settled = await lab.move("hotel")
        assert settled["detail"] == f"co-located, care-of {INNER}"
        assert lab.vpn.negotiated == [OUTER_HOME]
        assert ("detect", "hotel", HOTEL) in lab.daemon.requests
        assert lab.daemon.requests[-1] == ("rest",)
        asked = len(lab.daemon.requests)
        for network in ("airport", "hotspot", "hotel"):
            settled = await lab.move(network)
            assert (settled["state"], settled["detail"]) == ("registered", f"co-located, care-of {INNER}")
            assert settled["timeline"]["registration"] is not None and settled["timeline"]["ike"] is None
        assert lab.vpn.negotiated == [OUTER_HOME]
        assert {request[0] for request in lab.daemon.requests[asked:]} == {"detect", "rest"}
        assert ("attach", "airport", AIRPORT) in lab.outer.requests
        assert ("discover", "hotspot", True) in lab.outer.requests

    in_lab(tmp_path, scenario)


@pytest.mark.parametrize("stack", ["mip-in-ipsec-in-mip", "mip-in-ipsec"])
def test_inside_is_where_the_home_agent_inside_answers(tmp_path, stack):
    async def scenario(lab):
        await lab.move("hotel")
        for network, detail in (
            ("campus", f"co-located, care-of {CAMPUS}"),
            ("office", "through 10.0.2.1, care-of 10.0.0.4"),
            ("home", "deregistered"),
        ):
            lab.links.done.clear()
            settled = await lab.move(network)
            assert settled["detail"] == detail
            assert lab.links.done[-1] == "steer False"
            assert "10.0.1.100" in lab.policy.inside  # until T_MONITOR
        settled = await lab.move("airport")
        assert lab.policy.inside == set()
        assert settled["detail"] == f"co-located, care-of {INNER}"
        assert lab.links.done[-1] == "steer True"
        assert len(lab.vpn.negotiated) == 1

    in_lab(tmp_path, scenario, stack=stack)


def test_the_home_agent_outside_is_left(tmp_path):
    async def scenario(lab):
        await lab.move("campus")
        await asyncio.sleep(0.05)
        ops = [request[0] for request in lab.outer.requests]
        assert ops[-2:] == ["deregister", "detach"]
        assert lab.vpn.negotiated == []

    in_lab(tmp_path, scenario)


@pytest.mark.parametrize("stack", ["mip-in-ipsec-in-mip", "mip-in-ipsec"])
def test_an_answer_that_comes_late_is_believed_all_the_same(tmp_path, stack):
    async def scenario(lab):
        await lab.move("campus")
        assert lab.policy.inside == set()  # what is known of networks is not asked
        lab.ask("subscribe")
        assert (await lab.line())["ok"]
        lab.daemon.inside = ("campus",)
        lab.daemon.detect("campus", CAMPUS)
        assert (await lab.until_settled())[-1]["detail"] == f"co-located, care-of {CAMPUS}"
        assert lab.policy.inside == {"10.0.1.100", CAMPUS}

    in_lab(tmp_path, scenario, stack=stack, inside=())


@pytest.mark.parametrize("stack", ["mip-in-ipsec-in-mip", "mip-in-ipsec"])
def test_without_the_extension_nothing_goes_out_in_clear(tmp_path, stack):
    """The firewall lets requests in, and the home agent has registered the address outside."""

    async def scenario(lab):
        lab.daemon.trusted = False
        await lab.move("hotel")
        asked = len(lab.daemon.requests)
        settled = await lab.move("airport")
        assert settled["detail"] == f"co-located, care-of {INNER}"
        await asyncio.sleep(0.05)
        ops = [request[0] for request in lab.daemon.requests[asked:]]
        assert "renew" in ops or "attach" in ops  # the inner address again
        assert lab.policy.inside == set()

    in_lab(tmp_path, scenario, stack=stack, inside=("hotel", "airport"))


def test_an_answer_about_another_link_is_none(tmp_path):
    async def scenario(lab):
        await lab.move("hotel")
        lab.daemon.tell("detected", interface="campus", inside=True, mode="co-located", code=0)
        await asyncio.sleep(0.05)
        state = await lab.state()
        assert (state["moving"], state["inside"], lab.node.inside) == (False, False, None)

    in_lab(tmp_path, scenario)


def test_a_gateway_that_has_forgotten_us_inside_is_asked_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(detecting, "ALIVE", 0.1)

    async def scenario(lab):
        await lab.move("hotel")
        await lab.move("campus")
        forgotten = lab.vpn.tunnel

        def reaches_nobody(mode, care_of, agent, answer=lab.daemon.answer):
            if lab.vpn.tunnel is not forgotten:
                answer(mode, care_of, agent)

        lab.daemon.answer = reaches_nobody
        settled = await lab.move("airport")
        assert settled["state"] == "registered"
        assert lab.vpn.negotiated == [OUTER_HOME, OUTER_HOME]

    in_lab(tmp_path, scenario)


def test_without_the_home_agent_outside_there_is_no_way(tmp_path):
    async def scenario(lab):
        lab.outer.grants = None
        settled = await lab.move("hotel")
        assert (settled["state"], settled["detail"]) == ("unregistered", "outside: registration-timeout")
        assert lab.vpn.negotiated == []

    in_lab(tmp_path, scenario)


@pytest.mark.parametrize("stack", ["mip-in-ipsec-in-mip", "mip-in-ipsec"])
def test_without_ipsec_it_registers_in_clear(tmp_path, stack):
    async def scenario(lab):
        await lab.move("hotel")
        lab.ask("ipsec", action="down")
        settled = (await lab.until_settled())[-1]
        assert settled["detail"] == f"co-located, care-of {HOTEL}"
        assert lab.vpn.tunnel is None
        lab.ask("ipsec", action="up")
        assert (await lab.until_settled())[-1]["detail"] == f"co-located, care-of {INNER}"

    in_lab(tmp_path, scenario, stack=stack, inside=())


def test_with_mobike_no_agent_outside_is_of_use(tmp_path):
    async def scenario(lab):
        settled = await lab.move("hotspot")
        assert settled["detail"] == "no-address: no DHCP server answered"
        await lab.move("hotel")
        await lab.move("airport")
        assert lab.vpn.negotiated == [HOTEL] and lab.vpn.followed == ["leave", AIRPORT]
        assert ("detect", "airport", AIRPORT) in lab.daemon.requests

    in_lab(tmp_path, scenario, stack="mip-in-ipsec")


def test_ike_waits_for_the_home_agent_inside_where_that_is_asked_for(tmp_path):
    async def scenario(lab):
        began = virtual_time.now()
        await lab.move("hotel")
        assert virtual_time.now() - began > 0.199

    async def run():
        file = tmp_path / "roam.toml"
        lab = TwoAgents(tmp_path)
        file.write_text(file.read_text().replace("detection = 0", "detection = 0.2"))
        lab.node.config = load(file)
        async with lab:
            await scenario(lab)

    virtual_time.run(run())


def test_the_stack_with_two_needs_both(tmp_path):
    file = tmp_path / "roam.toml"
    Lab(tmp_path, "mip-in-ipsec")
    file.write_text(file.read_text().replace('"mip-in-ipsec"', '"mip-in-ipsec-in-mip"'))
    with pytest.raises(ConfigError, match="outer"):
        load(file)
