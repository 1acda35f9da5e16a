"""Whatever arrives, no core crashes, spins, grows without bound, or believes what is not proven."""

from __future__ import annotations

import json
from ipaddress import IPv4Address
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mip_world import CARE_OF, HOME_ADDRESS, HOME_AGENT, MN_MAC, A, World, association

from testbed.mobileip.core.api import AgentMessage, Datagram
from testbed.mobileip.core.association import sign
from testbed.mobileip.core.foreign.effects import SetVisitor
from testbed.mobileip.core.home.effects import SetBinding


@pytest.fixture(scope="module")
def corpus() -> list[bytes]:
    """Messages that were valid once: of every kind, from an ordinary walk."""
    world = World()
    world.attach("hotel", CARE_OF)
    world.run(1.5)
    world.discover("visited")
    world.run(1.5)
    world.discover("home")
    world.run(1.5)
    messages = sorted(set(world.wire))
    assert {message[0] for message in messages} == {1, 3, 9, 10}
    return messages


def mutate(message: bytes, rng: Random) -> bytes:
    data = bytearray(message)
    for _ in range(rng.randint(1, 4)):
        kind = rng.randrange(7)
        place = rng.randrange(len(data)) if data else 0
        if kind == 0 and data:
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[place] = rng.choice((0, 1, 3, 9, 10, 16, 19, 32, 33, 34, 127, 128, 130, 255))
        elif kind == 2:
            del data[place:]
        elif kind == 3:
            data += rng.randbytes(rng.choice((1, 2, 22, 300)))
        elif kind == 4:
            data[place:place] = rng.randbytes(rng.randint(1, 8))
        elif kind == 5:
            del data[place : place + rng.randint(1, 8)]
        else:
            data = bytearray(data + data[place:])
    return bytes(data[:65507])


def throw(world: World, payload: bytes, rng: Random) -> None:
    """Give `payload` to every core, by every door."""
    source = rng.choice(
        (CARE_OF, HOME_ADDRESS, HOME_AGENT, A(0), A("255.255.255.255"), A(rng.getrandbits(32)))
    )
    destination = rng.choice((HOME_AGENT, HOME_ADDRESS, A("224.0.0.11"), A("10.0.1.255")))
    for core in (world.mn, world.ha, *world.fas):
        core.receive(
            Datagram(
                payload,
                source,
                rng.choice((0, 434, 65535)),
                destination,
                434,
                rng.choice((None, "visited", "home", "x")),
                rng.choice((1, 64, 255)),
                rng.choice((None, MN_MAC)),
            ),
            world.now,
        )
        for interface in ("home", "visited"):
            core.receive_agent_message(
                AgentMessage(payload, source, destination, interface, 1, rng.choice((None, MN_MAC))),
                world.now,
            )


@pytest.mark.parametrize("network", ["hotel", "visited", "home"])
@pytest.mark.parametrize("seed", range(4))
def test_mutated_messages(corpus, network, seed):
    rng = Random(f"{network}{seed}")
    world = World(seed=seed)
    if network == "hotel":
        world.attach(network, CARE_OF)
    else:
        world.discover(network)
    world.run(2.0)
    for _ in range(800):
        throw(world, mutate(rng.choice(corpus), rng), rng)
        if rng.random() < 0.02:
            world.run(rng.uniform(0, 2), steps=2000)
        else:
            world._drain()
    for core in (world.mn, world.ha, *world.fas):
        picture = core.state(world.now)
        assert len(json.dumps(picture)) < 30_000
        assert len(core.counters) < 60
    # Nothing but the node's own requests has moved anything.
    for _, _, effect in world.log:
        if isinstance(effect, SetBinding):
            assert effect.home_address == HOME_ADDRESS
        if isinstance(effect, SetVisitor):
            assert effect.home_address == HOME_ADDRESS
    world.discover("visited")
    world.run(140.0)
    assert world.reachable()


@given(payload=st.binary(max_size=200), kind=st.sampled_from([b"", b"\x01", b"\x03", b"\x09\0", b"\x0a\0"]))
@settings(max_examples=150)
def test_noise(payload, kind):
    world = World()
    world.discover("visited")
    throw(world, kind + payload, Random(payload))
    world.run(0.01)
    assert world.reachable()


addresses = st.one_of(
    st.sampled_from([HOME_ADDRESS, HOME_AGENT, CARE_OF, A(0), A("255.255.255.255"), A("10.0.1.255")]),
    st.integers(0, 2**32 - 1).map(IPv4Address),
)


@given(
    flags=st.integers(0, 255), lifetime=st.integers(0, 0xFFFF), home_agent=addresses, care_of=addresses,
    skew=st.integers(-(2**63), 2**63), source=addresses, destination=addresses,
)  # fmt: skip
@settings(max_examples=150)
def test_a_mobile_node_that_has_gone_mad_hurts_only_itself(
    flags, lifetime, home_agent, care_of, skew, source, destination
):
    """Authentic requests with any content: answered or discarded; other nodes' bindings stay."""
    from testbed.mobileip.core.home_agent import HomeAgent
    from testbed.mobileip.wire.identification import from_unix
    from testbed.mobileip.wire.registration_request import RegistrationRequest

    from mip_world import EPOCH, clock, home_agent_config  # isort: skip

    other = A("10.0.1.101")
    config = home_agent_config(mobile_nodes=(association(HOME_ADDRESS), association(other)))
    ha = HomeAgent(config, clock)
    for node, fields in (
        (other, (0x20, 300, HOME_AGENT, CARE_OF, 0)),
        (HOME_ADDRESS, (flags, lifetime, home_agent, care_of, skew)),
    ):
        request = RegistrationRequest(
            fields[0], fields[1], node, fields[2], fields[3], (from_unix(EPOCH) + fields[4]) % 2**64
        )
        payload = sign(request.encode(), 32, association(node))
        ha.receive(Datagram(payload, source, 434, destination, 434), 0.0)
    pictures = {each["home_address"]: each for each in ha.state(0.0)["bindings"]}
    for picture in pictures.values():
        for address in map(A, picture["care_of_addresses"]):
            assert address not in (HOME_ADDRESS, other, HOME_AGENT) and not address.is_multicast
    ha.tick(1e9)
    assert ha.state(1e9)["bindings"] == [] or config.lifetime == 0xFFFF
