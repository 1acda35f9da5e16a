"""The connection manager where charon moves the security association (MOBIKE)."""

import virtual_time
from test_node_roam import ADDRESSES, INNER, Lab

HOTEL, AIRPORT = (ADDRESSES[name].partition("/")[0] for name in ("hotel", "airport"))


def in_lab(tmp_path, scenario):
    async def run():
        lab = Lab(tmp_path, "mip-in-ipsec")
        lab.vpn.follows = True
        async with lab:
            await scenario(lab)

    virtual_time.run(run())


def test_the_security_association_and_the_registration_of_the_inner_address_outlive_a_move(tmp_path):
    async def scenario(lab):
        assert (await lab.move("hotel"))["timeline"]["registration"] is not None
        asked = len(lab.daemon.requests)
        for network in ("airport", "hotel"):
            settled = await lab.move(network)
            assert (settled["state"], settled["detail"]) == ("registered", f"co-located, care-of {INNER}")
            assert settled["timeline"]["ike"] is not None and settled["timeline"]["registration"] is None
        assert lab.vpn.negotiated == [HOTEL]
        assert lab.vpn.followed == ["leave", AIRPORT, "leave", HOTEL]
        assert lab.daemon.requests[asked:] == []
        assert lab.vpn.destroyed == 2  # at the start and before the first, whatever a predecessor has left

    in_lab(tmp_path, scenario)


def test_inside_it_is_kept_for_later_and_nothing_goes_into_it(tmp_path):
    async def scenario(lab):
        await lab.move("hotel")
        lab.links.done.clear()
        for network, state in (("campus", "registered"), ("home", "at-home")):
            assert (await lab.move(network))["state"] == state
        assert [done for done in lab.links.done if "steer" in done] == ["steer False"] * 2
        settled = await lab.move("airport")
        assert lab.links.done[-1] == "steer True"
        assert settled["timeline"]["registration"] is not None  # the home agent has deregistered it
        assert lab.vpn.negotiated == [HOTEL] and lab.vpn.followed[-1] == AIRPORT

    in_lab(tmp_path, scenario)


def test_what_does_not_follow_is_replaced(tmp_path):
    async def scenario(lab):
        await lab.move("hotel")
        lab.vpn.stays = True
        lab.ask("move", network="airport")
        events = await lab.until_settled()
        names = [event.get("event") for event in events]
        assert [name for name in names if name and name.startswith(("ike", "mobike"))] == [
            "mobike-started", "ike-failed", "ike-started", "ike",
        ]  # fmt: skip
        assert events[-1]["state"] == "registered"
        assert lab.vpn.negotiated == [HOTEL, AIRPORT]

    in_lab(tmp_path, scenario)


def test_without_an_address_it_waits_for_the_next_network(tmp_path):
    """An agent there may well be: nobody asks."""

    async def scenario(lab):
        await lab.move("hotel")
        asked = len(lab.daemon.requests)
        settled = await lab.move("hotspot")
        assert (settled["state"], settled["detail"]) == (
            "unregistered", "no-address: no DHCP server answered",
        )  # fmt: skip
        assert lab.daemon.requests[asked:] == []
        assert (await lab.move("airport"))["state"] == "registered"
        assert lab.vpn.negotiated == [HOTEL]

    in_lab(tmp_path, scenario)


def test_inside_its_end_is_not_missed(tmp_path):
    async def scenario(lab):
        await lab.move("hotel")
        await lab.move("campus")
        lab.ask("subscribe")
        assert (await lab.line())["ok"]
        lab.vpn.tunnel = None
        lab.vpn.lost()
        await lab.move("airport")
        assert lab.vpn.negotiated == [HOTEL, AIRPORT]
        assert lab.vpn.followed == ["leave"]  # on the way inside

    in_lab(tmp_path, scenario)


def test_a_registration_that_has_ended_is_made_anew(tmp_path):
    async def scenario(lab):
        await lab.move("hotel")
        lab.daemon.tell("registration-expired")
        assert (await lab.move("airport"))["timeline"]["registration"] is not None

    in_lab(tmp_path, scenario)
