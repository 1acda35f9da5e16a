"""The connection manager where a VPN follows moves by itself, and there is no Mobile IP."""

import asyncio
import json

import virtual_time
from test_node_roam import Lab

from testbed.node.roam.mobile_ip import NoMobileIp
from testbed.node.serving import serve


class RoamingLab(Lab):
    """Without a daemon of Mobile IP."""

    def __init__(self, folder):
        super().__init__(folder, "mip-only", 'roaming-vpn = "wg0"')
        self.node.mobile_ip = NoMobileIp()

    async def __aenter__(self):
        self.server = serve(self.path, self.manager.journal, self.manager.handle)
        self.running = asyncio.create_task(self.manager.run())
        self.reader, self.writer = await asyncio.open_unix_connection(self.path)
        return self

    async def __aexit__(self, *_):
        self.daemon.start()
        await super().__aexit__()


def in_lab(tmp_path, scenario):
    async def run():
        async with RoamingLab(tmp_path) as lab:
            await scenario(lab)

    virtual_time.run(run())


def test_an_address_is_all_that_a_move_needs(tmp_path):
    async def scenario(lab):
        for network in ("hotel", "airport"):
            settled = await lab.move(network)
            assert (settled["state"], settled["detail"]) == ("connected", "10.0.1.100 through wg0")
            timeline = settled["timeline"]
            assert timeline["address"] is not None
            assert timeline["ike"] is None and timeline["registration"] is None
        assert "keep" in lab.links.done
        assert lab.daemon.requests == []

    in_lab(tmp_path, scenario)


def test_where_nobody_lends_an_address_it_has_none(tmp_path):
    async def scenario(lab):
        settled = await lab.move("hotspot")
        assert (settled["state"], settled["detail"]) == (
            "unregistered", "no-address: no DHCP server answered",
        )  # fmt: skip
        assert (await lab.move("hotel"))["state"] == "connected"

    in_lab(tmp_path, scenario)


def test_what_is_to_be_forgotten_is_reported_as_the_daemon_would(tmp_path, capfd):
    async def scenario(lab):
        await lab.move("hotel")
        lab.ask("forget")
        assert "error" not in await lab.line()
        assert (await lab.state())["state"] == "unregistered"

    in_lab(tmp_path, scenario)
    events = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [one["source"] for one in events if one["event"] == "detached"] == ["roam"]
