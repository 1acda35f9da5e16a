"""The VPN client against a charon that is played by the test."""

import asyncio
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from vici.protocol import Message, Packet

from testbed.node.roam.roam_toml import Ipsec
from testbed.node.roam.vpn import Tunnel, Vpn, VpnError

COA, INNER = IPv4Address("198.51.100.70"), IPv4Address("10.0.250.1")

TERMINATED = ("terminate", {"ike": b"vpn", "force": b"yes", "timeout": b"-1"})


class Charon:
    """Speaks vici; `initiate` does what the test wants."""

    def __init__(self, path, initiate=b"yes"):
        self.path, self.outcome = path, initiate
        self.requests = []
        self.watchers = []
        self.responder = "0000000000000000"  # the gateway's SPI, once it has answered

    async def __aenter__(self):
        self.server = await asyncio.start_unix_server(self.serve, self.path)
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for writer in self.watchers:
            writer.close()

    @staticmethod
    def send(writer, kind, content=b""):
        packet = bytes([kind]) + content
        writer.write(len(packet).to_bytes(4, "big") + packet)

    def event(self, writer, name, message):
        self.send(writer, Packet.EVENT, bytes([len(name)]) + name.encode() + Message.serialize(message))

    async def serve(self, reader, writer):
        try:
            while True:
                packet = await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
                name = packet[2 : 2 + packet[1]].decode()
                if packet[0] == Packet.EVENT_REGISTER:
                    self.watchers += [writer] if name == "ike-updown" else []
                    self.send(writer, Packet.EVENT_CONFIRM)
                    continue
                content = Message.deserialize(
                    Packet.parse(bytes([Packet.CMD_RESPONSE]) + packet[2 + len(name) :])[1]
                )
                self.requests.append((name, content))
                answer = {"success": "yes"}
                if name == "list-sas":
                    self.event(writer, "list-sa", {"vpn": {"responder-spi": self.responder}})
                if name == "initiate":
                    if self.outcome is None:
                        continue  # charon keeps its peace
                    answer = {"success": self.outcome, "errmsg": "establishing CHILD_SA 'vpn' failed"}
                    if self.outcome == b"yes":
                        up = {"up": "yes", "vpn": {"uniqueid": "7", "local-vips": [str(INNER)]}}
                        self.event(writer, "ike-updown", up)
                self.send(writer, Packet.CMD_RESPONSE, Message.serialize(answer))
        except asyncio.IncompleteReadError:
            writer.close()


def client(path, mobike=False):
    gateway, protected = IPv4Address("203.0.113.2"), (IPv4Network("10.0.0.0/8"),)
    return Vpn(Ipsec(gateway, protected, "secret", "mn", "gw", mobike, str(path)))


def test_a_lent_inner_address(tmp_path):
    async def run():
        async with Charon(tmp_path / "vici") as charon:
            vpn = client(charon.path)
            assert await vpn.establish(COA, None, 1.0, 1.0) == Tunnel(COA, INNER, b"7")
            assert vpn.tunnel == Tunnel(COA, INNER, b"7")
            names = [name for name, _ in charon.requests]
            assert names == ["load-shared", "load-conn", "initiate"]
            connection = charon.requests[1][1]["vpn"]
            assert (connection["local_addrs"], connection["vips"]) == ([str(COA).encode()], [b"0.0.0.0"])
            assert connection["mobike"] == b"no"
            assert connection["dpd_delay"] == b"5s"  # a gateway that has forgotten us is noticed
            assert connection["children"]["vpn"]["remote_ts"] == [b"10.0.0.0/8"]

    asyncio.run(run())


def test_a_fixed_inner_address_is_the_traffic_selector(tmp_path):
    async def run():
        async with Charon(tmp_path / "vici") as charon:
            home = IPv4Address("10.0.1.100")
            assert await client(charon.path).establish(home, home, 1.0, 1.0) == Tunnel(home, None, b"7")
            connection = charon.requests[1][1]["vpn"]
            assert "vips" not in connection
            assert connection["children"]["vpn"]["local_ts"] == [b"10.0.1.100/32"]

    asyncio.run(run())


def test_with_esp_in_the_kernel_the_association_belongs_to_its_interface(tmp_path):
    async def run():
        async with Charon(tmp_path / "vici") as charon:
            vpn = client(charon.path)
            for vpn.in_kernel in (False, True):
                await vpn.establish(COA, None, 1.0, 1.0)
            children = [one["vpn"]["children"]["vpn"] for name, one in charon.requests if name == "load-conn"]
            marks = [{key: child[key] for key in child if "mark" in key} for child in children]
            assert marks == [{}, {"mark_in": b"66", "mark_out": b"66", "set_mark_out": b"66"}]

    asyncio.run(run())


@pytest.mark.parametrize(("outcome", "reason"), [(None, "ike-timeout"), (b"no", "ike-failed: establishing")])
def test_failures_have_a_name_and_a_bound(tmp_path, outcome, reason):
    async def run():
        async with Charon(tmp_path / "vici", outcome) as charon:
            with pytest.raises(VpnError, match=reason):
                await client(charon.path).establish(COA, None, 0.2, 0.2)
            assert charon.requests[-1] == TERMINATED  # or it goes on asking

    asyncio.run(run())


def test_a_negotiation_that_is_cancelled_is_not_completed_by_charon(tmp_path):
    async def run():
        async with Charon(tmp_path / "vici", None) as charon:
            negotiating = asyncio.create_task(client(charon.path).establish(COA, None, 9.0, 9.0))
            while "initiate" not in [name for name, _ in charon.requests]:
                await asyncio.sleep(0.01)
            negotiating.cancel()
            with pytest.raises(asyncio.CancelledError):
                await negotiating
            assert charon.requests[-1] == TERMINATED

    asyncio.run(run())


@pytest.mark.parametrize(("responder", "seconds"), [("0" * 16, 0.1), ("00c0ffee00c0ffee", 0.6)])
def test_a_gateway_that_answers_gets_the_time_it_needs(tmp_path, responder, seconds):
    """Begun anew the negotiation would leave the gateway with two."""

    async def run():
        async with Charon(tmp_path / "vici", None) as charon:
            charon.responder = responder
            began = asyncio.get_running_loop().time()
            with pytest.raises(VpnError, match="ike-timeout"):
                await client(charon.path).establish(COA, None, 0.6, 0.1)
            assert asyncio.get_running_loop().time() - began >= seconds
            assert [name for name, _ in charon.requests].count("initiate") == 1

    asyncio.run(run())


def test_the_end_of_the_association_before_is_no_loss(tmp_path):
    async def run():
        lost = asyncio.Event()
        async with Charon(tmp_path / "vici") as charon:
            vpn = client(charon.path)
            watching = asyncio.create_task(vpn.run(lost.set))
            while not charon.watchers:
                await asyncio.sleep(0.01)
            await vpn.establish(COA, None, 1.0, 1.0)
            charon.event(charon.watchers[0], "ike-updown", {"vpn": {"uniqueid": "6"}})
            await asyncio.sleep(0.05)
            assert vpn.tunnel is not None and not lost.is_set()
            watching.cancel()

    asyncio.run(run())


def test_no_charon_is_a_timeout_and_destroying_nothing_is_fine(tmp_path):
    async def run():
        vpn = client(tmp_path / "nobody")
        await vpn.destroy()
        with pytest.raises(VpnError, match="ike-timeout"):
            await vpn.establish(COA, None, 0.05, 0.05)

    asyncio.run(run())


def test_charon_may_start_while_it_is_awaited(tmp_path):
    async def run():
        vpn = client(tmp_path / "vici")
        waiting = asyncio.create_task(vpn.establish(COA, None, 2.0, 2.0))
        await asyncio.sleep(0.05)
        async with Charon(tmp_path / "vici"):
            assert (await waiting).inner == INNER

    asyncio.run(run())


@pytest.mark.parametrize("how", ["event", "crash"])
def test_a_tunnel_that_ends_against_our_will_is_told(tmp_path, how):
    async def run():
        lost = asyncio.Event()
        async with Charon(tmp_path / "vici") as charon:
            vpn = client(charon.path)
            watching = asyncio.create_task(vpn.run(lost.set))
            while not charon.watchers:
                await asyncio.sleep(0.01)
            await vpn.establish(COA, None, 1.0, 1.0)
            if how == "event":
                charon.event(charon.watchers[0], "ike-updown", {"vpn": {"uniqueid": "7"}})
            else:
                charon.watchers[0].close()
            await asyncio.wait_for(lost.wait(), 1)
            assert vpn.tunnel is None
            watching.cancel()

    asyncio.run(run())


def test_what_we_end_ourselves_is_not_a_loss(tmp_path):
    async def run():
        lost = asyncio.Event()
        async with Charon(tmp_path / "vici") as charon:
            vpn = client(charon.path)
            watching = asyncio.create_task(vpn.run(lost.set))
            await vpn.establish(COA, None, 1.0, 1.0)
            while not charon.watchers:
                await asyncio.sleep(0.01)
            await vpn.destroy()
            charon.event(charon.watchers[0], "ike-updown", {"vpn": {"uniqueid": "7"}})
            await asyncio.sleep(0.05)
            assert not lost.is_set()
            assert charon.requests[-1] == TERMINATED
            watching.cancel()

    asyncio.run(run())


AIRPORT = IPv4Address("198.51.100.140")


def update(charon, local):
    charon.event(charon.watchers[0], "ike-update", {"local-host": str(local), "vpn": {"uniqueid": "7"}})


def rekey(charon):
    charon.event(charon.watchers[0], "child-rekey", {"vpn": {"uniqueid": "7"}})


@pytest.mark.parametrize("in_kernel", [False, True])
@pytest.mark.parametrize("local", [AIRPORT, COA])
@pytest.mark.parametrize("told", [(), (update,), (rekey,), (update, rekey), (rekey, update)])
def test_charon_moves_a_security_association(tmp_path, in_kernel, local, told):
    """With ESP in userspace it needs a CHILD_SA that is newer than its address, which need not be another."""

    async def run():
        async with Charon(tmp_path / "vici") as charon:
            vpn = client(charon.path, mobike=True)
            vpn.in_kernel = in_kernel
            watching = asyncio.create_task(vpn.run(lambda: None))
            while not charon.watchers:
                await asyncio.sleep(0.01)
            before = await vpn.establish(COA, None, 1.0, 1.0)
            assert charon.requests[1][1]["vpn"]["mobike"] == b"yes"
            vpn.leave()
            following = asyncio.create_task(vpn.follow(local, 0.1))
            for event in told:
                event(charon, *([local] if event is update else []))
            moved = local == COA or update in told
            if moved and (in_kernel or (told and told[-1] is rekey)):
                assert await following == replace(before, local=local) == vpn.tunnel
            else:
                with pytest.raises(VpnError, match="mobike-timeout"):
                    await following
            watching.cancel()

    asyncio.run(run())


def test_a_security_association_that_ends_is_not_waited_for(tmp_path):
    async def run():
        lost = asyncio.Event()
        async with Charon(tmp_path / "vici") as charon:
            vpn = client(charon.path, mobike=True)
            watching = asyncio.create_task(vpn.run(lost.set))
            while not charon.watchers:
                await asyncio.sleep(0.01)
            await vpn.establish(COA, None, 1.0, 1.0)
            vpn.leave()
            following = asyncio.create_task(vpn.follow(AIRPORT, 9.0))
            charon.event(charon.watchers[0], "ike-updown", {"vpn": {"uniqueid": "7"}})
            with pytest.raises(VpnError, match="mobike-timeout"):
                await asyncio.wait_for(following, 1)
            assert lost.is_set() and vpn.tunnel is None
            watching.cancel()

    asyncio.run(run())
