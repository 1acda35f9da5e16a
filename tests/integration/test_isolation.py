"""A node whose root is an attacker: nobody of the engine's host and of other labs may answer."""

import json
import socket
from uuid import uuid4

import docker
import pytest

from testbed.engine.api import ContainerSpec, Endpoint, NetworkSpec, NotFoundError
from testbed.lab.addresses import SubnetPool, choose_pool, endpoint_addresses, taken_subnets
from testbed.lab.isolation import try_to_reach_host

# Listens in the host's network namespace, through the engine: that may be another machine's.
LISTEN = """
import json, socket, subprocess
port = socket.create_server(("0.0.0.0", 0))
found = json.loads(subprocess.run(["ip", "-json", "-4", "address"], capture_output=True, text=True).stdout)
own = {each["ifname"]: one["local"] for each in found for one in each["addr_info"] if each["ifname"] != "lo"}
print(json.dumps([port.getsockname()[1], own]), flush=True)
while True:
    port.accept()[0].sendall(b"reached")
"""

# Takes an address of the link's subnet, and each target for a neighbour: root may do both.
ATTACK = """
import socket, subprocess, sys
from concurrent.futures import ThreadPoolExecutor
extra, port, *targets = sys.argv[1:]
subprocess.run(["ip", "address", "add", extra, "dev", "eth0"], check=True)
def reach(target):
    subprocess.run(["ip", "route", "replace", target, "dev", "eth0"], check=True)
    try:
        with socket.create_connection((target, int(port)), timeout=3) as connection:
            return connection.recv(16) == b"reached"
    except OSError:
        return False
with ThreadPoolExecutor(32) as threads:
    print(*[target for target, hit in zip(targets, threads.map(reach, targets)) if hit])
"""

MARK = "testbed isolation"
# Prints its link address, and then whom each packet with the mark that comes by is from and to.
SNIFF = f"""
import socket, time
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.bind(("eth0", 3))
print(wire.getsockname()[4].hex(), flush=True)
until = time.monotonic() + 6
while (left := until - time.monotonic()) > 0:
    wire.settimeout(left)
    try:
        frame, (_, _, kind, *_) = wire.recvfrom(2048)
    except TimeoutError:
        break
    if b"{MARK}" in frame and kind != 4:
        print(socket.inet_ntoa(frame[30:34]), flush=True)
"""

# Sends the mark to all targets, as if they were neighbours, and in frames to a link address; tries to connect
# to each; prints who sent it any packet of IPv4.
SEND = f"""
import socket, struct, subprocess, sys, threading, time
extra, link, *targets = sys.argv[1:]
subprocess.run(["ip", "address", "add", extra, "dev", "eth0"], check=True)
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
wire.bind(("eth0", 0x0800))
heard = set()
def hear():
    while True:
        frame, (_, _, kind, *_) = wire.recvfrom(2048)
        if kind != 4:
            heard.add(socket.inet_ntoa(frame[26:30]))
threading.Thread(target=hear, daemon=True).start()
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
udp.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
subprocess.run(["ip", "route", "replace", "default", "dev", "eth0"], check=True)
mark = b"{MARK}"
for target in targets:
    tcp = socket.socket()
    tcp.setblocking(False)
    tcp.connect_ex((target, 9))
    for port in (9, 10):
        try:
            udp.sendto(mark, (target, port))
        except OSError:
            pass
    head = struct.pack("!BBHHHBBHI", 0x45, 0, 20 + len(mark), 1, 0, 64, 253, 0, 0) + socket.inet_aton(target)
    wire.send(bytes.fromhex(link) + wire.getsockname()[4] + b"\\x08\\x00" + head + mark)
time.sleep(2)
print(*sorted(heard))
"""


@pytest.fixture(scope="module")
def links(engine):
    """Two networks, as of two labs: name, subnet and free addresses of each."""
    labels = {"org.testbed.test": f"isolation-{uuid4().hex[:12]}"}
    pool = SubnetPool(choose_pool(), taken_subnets(engine.networks()), lab="isolation")
    made = []
    try:
        for side in ("ours", "theirs"):
            name, subnet = f"testbed-test-{labels['org.testbed.test']}-{side}", pool.take(28)
            engine.create_network(NetworkSpec(name, subnet, labels))
            made.append((name, subnet, endpoint_addresses(subnet, ())))
        yield made
    finally:
        for network in engine.networks(labels):
            engine.remove_network(network.id)


@pytest.fixture
def start(engine, owned, node_image):
    def start(name, *command, endpoint, **more):
        id = engine.create_container(
            ContainerSpec(
                name=f"testbed-test-{owned['org.testbed.test']}-{name}",
                hostname=name,
                image=node_image,
                labels=owned,
                endpoints=(endpoint,),
                archive=b"",
                command=command,
                **more,
            )
        )
        engine.start_container(id)
        return id

    return start


@pytest.fixture
def host(engine, owned, node_image):
    """A listener in the host's network namespace: its port, and the host's addresses by interface."""
    api = docker.APIClient(**docker.utils.kwargs_from_env(), version="auto")
    made = api.create_container(
        node_image,
        ["python3", "-c", LISTEN],
        labels=owned,
        host_config=api.create_host_config(network_mode="host"),
    )
    api.start(made["Id"])
    yield json.loads(next(iter(engine.logs(made["Id"], follow=True))).text)
    api.close()


def lines(engine, id):
    return [line.text for line in engine.logs(id, follow=True)]


def test_nobody_outside_a_lab_answers(engine, links, start, host):
    (ours, subnet, addresses), (theirs, other, their_addresses) = links
    port, own = host
    neighbour, stranger = next(addresses), next(their_addresses)
    serve = f"import socket\nserver = socket.create_server(('0.0.0.0', {port}))\nprint('up', flush=True)\n"
    serve += "while True: server.accept()[0].sendall(b'reached')"
    for name, network, address in (("neighbour", ours, neighbour), ("stranger", theirs, stranger)):
        id = start(name, "python3", "-c", serve, endpoint=Endpoint(network, address))
        assert next(iter(engine.logs(id, follow=True))).text == "up"
    # The first address of a subnet is what the engine would give the host's end of the network.
    others = [address for device, address in own.items() if not device.startswith("br-")]
    targets = [*map(str, (neighbour, stranger, subnet[1], other[1])), *others]
    attacker = start(
        "attacker", "python3", "-c", ATTACK, f"{subnet[-2]}/{subnet.prefixlen}", str(port), *targets,
        endpoint=Endpoint(ours, next(addresses)),
    )  # fmt: skip
    assert lines(engine, attacker) == [str(neighbour)], "its own link's neighbour and nobody else"


def test_no_packet_leaves_a_lab(engine, links, start, host):
    """What is sent to everybody and everything reaches the link's own nodes, and nobody else's link."""
    (ours, subnet, addresses), (theirs, other, their_addresses) = links
    neighbour, stranger = next(addresses), next(their_addresses)
    logs = {}
    for name, network, address in (("neighbour", ours, neighbour), ("stranger", theirs, stranger)):
        id = start(name, "python3", "-c", SNIFF, endpoint=Endpoint(network, address))
        logs[name] = iter(engine.logs(id, follow=True))
    link = {name: next(log).text for name, log in logs.items()}["stranger"]
    _, own = host
    hosts = [address for device, address in own.items() if not device.startswith("br-")]
    internet = "192.0.2.99"  # nobody has it, and packets to it leave no link
    targets = [*map(str, (neighbour, stranger, subnet[1], other[1])), *hosts, internet]
    everybody = ["255.255.255.255", "224.0.0.1"]
    attacker = start(
        "attacker", "python3", "-c", SEND, f"{subnet[-2]}/{subnet.prefixlen}", link, *targets, *everybody,
        endpoint=Endpoint(ours, next(addresses)),
    )  # fmt: skip
    answered = lines(engine, attacker)
    seen = {name: {line.text for line in log} for name, log in logs.items()}
    assert answered == [str(neighbour)], "answers come from the neighbour alone"
    assert {str(neighbour), *everybody} <= seen["neighbour"], "the control: it reaches what it may"
    assert seen["stranger"] == set(), "nothing of it on another lab's link"


def test_the_host_has_no_address_on_a_labs_network(links, host, engine):
    prefixes = [subnet for _, subnet, _ in links]
    _, own = host
    assert not [address for address in own.values() if any(_in(address, each) for each in prefixes)]


def _in(address, subnet):
    return socket.inet_aton(address) in {each.packed for each in subnet}


def test_doctor_sees_that_the_host_does_not_answer(engine, node_image, owned):
    reach = try_to_reach_host(engine, node_image, "org.testbed.test-doctor")
    assert not reach.answers
    assert not engine.networks({"org.testbed.test-doctor": ""})


def test_a_node_has_few_capabilities_and_gains_none(engine, links, start):
    (ours, _, addresses), _ = links
    script = "grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status; exec sleep 60"
    for more, mask in (({}, 0x34E0), ({"capabilities": frozenset({"SYS_CHROOT"})}, 0x434E0)):
        id = start(f"caps-{mask:x}", "sh", "-c", script, endpoint=Endpoint(ours, next(addresses)), **more)
        log = iter(engine.logs(id, follow=True))
        found = dict(next(log).text.split(":\t") for _ in range(3))
        assert found == {"CapEff": f"{mask:016x}", "CapBnd": f"{mask:016x}", "NoNewPrivs": "1"}


def test_a_limit_of_processors_is_the_engines(engine, links, start):
    (ours, _, addresses), _ = links
    id = start("slow", "sleep", "60", endpoint=Endpoint(ours, next(addresses)), cpus=0.25)
    api = docker.APIClient(**docker.utils.kwargs_from_env(), version="auto")
    assert api.inspect_container(id)["HostConfig"]["NanoCpus"] == 250_000_000
    api.close()


def test_a_file_is_read_from_a_container_that_runs_or_not(engine, links, start):
    (ours, _, addresses), _ = links
    id = start(
        "file", "sh", "-c", "umask 077; printf geheim >/etc/key", endpoint=Endpoint(ours, next(addresses))
    )
    assert lines(engine, id) == []
    assert engine.read_file(id, "/etc/key") == b"geheim"
    with pytest.raises(NotFoundError):
        engine.read_file(id, "/etc/none")
