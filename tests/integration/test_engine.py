"""Docker Engine through `DockerEngine`: what the protocol promises, tried on the engine that is here."""

import io
import tarfile
import threading
import time
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from uuid import uuid4

import pytest

from testbed.engine.api import (
    ContainerSpec,
    Endpoint,
    EngineError,
    InUseError,
    NameTakenError,
    NetworkSpec,
    NotFoundError,
    SubnetOverlapError,
)
from testbed.errors import UsageError
from testbed.lab.addresses import SubnetPool, choose_pool, endpoint_addresses, taken_subnets


@pytest.fixture
def name(owned):
    return f"testbed-test-{owned['org.testbed.test']}"


@pytest.fixture
def pool(engine, name):
    return SubnetPool(choose_pool(), taken_subnets(engine.networks()), lab=name)


@pytest.fixture
def network(engine, owned, name, pool):
    """Create a network and hand out its endpoints."""

    def create(suffix="net"):
        subnet = pool.take(28)
        engine.create_network(NetworkSpec(f"{name}-{suffix}", subnet, owned))
        addresses = endpoint_addresses(subnet, [])
        return lambda: Endpoint(f"{name}-{suffix}", next(addresses))

    return create


@pytest.fixture
def spec(owned, name, node_image):
    return ContainerSpec(
        name=name,
        hostname="probe",
        image=node_image,
        labels=owned,
        endpoints=(),
        archive=b"",
        command=("sleep", "infinity"),
    )


@pytest.fixture
def running(engine, spec):
    """Create and start a container."""

    def run(**changes):
        id = engine.create_container(replace(spec, **changes))
        engine.start_container(id)
        return id

    return run


def output(engine, id, *command, **options):
    with engine.execute(id, command, **options) as session:
        parts = list(session)
        return b"".join(data for stream, data in parts if stream == "stdout").decode(), session.exit_code()


def test_facts(engine):
    facts = engine.facts()
    assert tuple(map(int, facts.api.split("."))) >= (1, 41)
    assert facts.cpus >= 1 and facts.memory > 1 << 28 and facts.kernel and facts.version


class TestNetworks:
    def test_are_found_by_their_labels(self, engine, owned, name, pool):
        subnet = pool.take(29)
        labels = {**owned, "org.testbed.network": "hotel"}
        id = engine.create_network(NetworkSpec(name, subnet, labels))
        for query in (owned, {"org.testbed.network": "hotel", **owned}, {"org.testbed.network": "", **owned}):
            (found,) = engine.networks(query)
            assert (found.id, found.name, found.subnets) == (id, name, (subnet,))
            assert found.labels.items() >= labels.items()
        assert engine.networks({**owned, "org.testbed.network": "home"}) == []
        assert id in {each.id for each in engine.networks()}

    def test_names_and_subnets_are_taken_once(self, engine, owned, name, pool):
        subnet = pool.take(29)
        engine.create_network(NetworkSpec(name, subnet, owned))
        with pytest.raises(NameTakenError, match=name):
            engine.create_network(NetworkSpec(name, pool.take(29), owned))
        inside = IPv4Network((int(subnet.network_address), 30))
        with pytest.raises(SubnetOverlapError):
            engine.create_network(NetworkSpec(f"{name}-2", inside, owned))
        assert len(engine.networks(owned)) == 1

    def test_removal(self, engine, owned, network, running):
        id = running(endpoints=(network()(),))
        (found,) = engine.networks(owned)
        with pytest.raises(InUseError):
            engine.remove_network(found.id)
        engine.remove_container(id)
        engine.remove_network(found.id)
        engine.remove_network(found.id)  # a missing one is fine
        assert engine.networks(owned) == []

    def test_a_container_router_forwards_between_them_unchanged(self, engine, network, running, name):
        """The wire of every lab: nothing rewritten, nothing dropped, multicast and broadcast pass."""
        left, right = network("left"), network("right")
        hosts = []
        router_ends = (left(), right())
        running(
            name=f"{name}-router",
            endpoints=router_ends,
            sysctls={"net.ipv4.ip_forward": "1", "net.ipv4.icmp_echo_ignore_broadcasts": "0"},
        )
        for end, gateway in ((left(), router_ends[0]), (right(), router_ends[1])):
            id = running(name=f"{name}-{end.network[-4:]}", endpoints=(end,))
            output(engine, id, "ip", "route", "replace", "default", "via", str(gateway.address))
            hosts.append((id, end.address))
        (sender, source), (receiver, target) = hosts
        with engine.execute(receiver, ("tcpdump", "-lnpi", "any", "-c1", "icmp[0]=8")) as capture:
            time.sleep(0.5)
            text, code = output(engine, sender, "ping", "-c2", "-i0.2", "-W2", str(target))
            assert code == 0, text
            seen = b"".join(data for stream, data in capture if stream == "stdout").decode()
        assert f"{source} > {target}" in seen  # not the bridge's address: nobody masquerades
        for everybody in ("224.0.0.1", "255.255.255.255"):
            command = ("ping", "-b", "-t1", "-c1", "-W2", "-I", "eth0", everybody)
            text, code = output(engine, sender, *command)
            assert code == 0, text


class TestContainers:
    def test_one_is_what_its_spec_says(self, engine, network, running, owned, name):
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:
            entry = tarfile.TarInfo("etc/testbed/secret")
            entry.size, entry.mode = 6, 0o600
            archive.addfile(entry, io.BytesIO(b"hidden"))
        ends = tuple(network(suffix)() for suffix in ("a", "b", "c"))
        id = running(
            endpoints=ends,
            archive=data.getvalue(),
            sysctls={"net.ipv4.ip_forward": "1", "net.ipv4.conf.all.rp_filter": "0"},
            environment={"WHO": "me"},
            memory=64 << 20,
            pids=50,
            command=("sh", "-c", "cat /etc/testbed/secret; echo; echo $WHO; exec sleep infinity"),
        )
        (found,) = engine.containers(owned)
        assert (found.id, found.name, found.state, found.labels["org.testbed.test"]) == (
            id,
            name,
            "running",
            owned["org.testbed.test"],
        )
        addresses, _ = output(engine, id, "ip", "-o", "-4", "address", "show", "scope", "global")
        assert all(f" {end.address}/28 " in addresses for end in ends)
        assert len(addresses.splitlines()) == len(ends)
        assert output(engine, id, "stat", "-c%a", "/etc/testbed/secret")[0] == "600\n"
        assert output(engine, id, "hostname")[0] == "probe\n"
        assert output(engine, id, "cat", "/proc/sys/net/ipv4/ip_forward")[0] == "1\n"
        assert output(engine, id, "ip", "tuntap", "add", "dev", "t", "mode", "tun")[1] == 0
        assert output(engine, id, "ip", "link", "set", "eth0", "name", "hotel")[1] == 0
        assert [line.text for line in engine.logs(id)] == ["hidden", "me"]
        limits, _ = output(
            engine, id, "sh", "-c", "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>&-"
        )
        assert limits == "50\n"

    def test_without_endpoints_there_is_loopback_alone(self, engine, bare_node):
        assert output(engine, bare_node, "ls", "/sys/class/net")[0] == "lo\n"

    def test_a_name_is_taken_once(self, engine, spec, owned):
        engine.create_container(spec)
        with pytest.raises(NameTakenError):
            engine.create_container(spec)
        (found,) = engine.containers(owned)
        assert found.state == "created"

    @pytest.mark.parametrize(
        "change",
        [
            {"image": "testbed-no-such-image:1"},
            {"endpoints": (Endpoint("testbed-no-such-network", IPv4Address("198.18.0.2")),) * 2},
        ],
    )
    def test_nothing_is_left_of_one_that_fails(self, engine, spec, owned, change):
        with pytest.raises(NotFoundError):
            id = engine.create_container(replace(spec, **change))
            engine.start_container(id)
        for each in engine.containers(owned):
            assert each.state == "created"  # 20.10 finds the missing network only at the start
            engine.remove_container(each.id)

    def test_removal_of_a_missing_one_is_fine(self, engine, running):
        id = running()
        threads = [threading.Thread(target=engine.remove_container, args=(id,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        engine.remove_container(id)
        with pytest.raises(NotFoundError):
            engine.start_container(id)


class TestLogs:
    def test_lines_come_whole_with_stream_and_time(self, engine, running):
        # Every line ends: following an unfinished last one, the engine may stop before it passes that on.
        script = "echo out; echo err >&2; head -c 100000 /dev/zero | tr '\\0' x; echo; echo end"
        begun = time.time()
        id = running(command=("sh", "-c", script))
        lines = list(engine.logs(id, follow=True))
        assert sorted((line.stream, len(line.text)) for line in lines) == [
            ("stderr", 3),
            ("stdout", 3),
            ("stdout", 3),
            ("stdout", 100000),
        ]
        assert all(abs(line.time - begun) < 60 for line in lines)
        assert [line.text for line in engine.logs(id, stdout=False)] == ["err"]

    def test_the_last_lines(self, engine, running):
        id = running(command=("sh", "-c", "echo one; echo two"))
        assert len(list(engine.logs(id, follow=True))) == 2
        assert [line.text for line in engine.logs(id, tail=1)] == ["two"]

    def test_following_ends_when_closed_from_another_thread(self, engine, running):
        id = running(command=("sh", "-c", "echo first; exec sleep infinity"))
        log = engine.logs(id, follow=True)
        timer = threading.Timer(0.5, log.close)
        timer.start()
        assert [line.text for line in log] == ["first"]
        log.close()

    def test_of_a_missing_container(self, engine):
        with pytest.raises(NotFoundError):
            engine.logs("testbed-no-such-container")


class TestExec:
    def test_streams_input_and_exit_code(self, engine, bare_node):
        with engine.execute(bare_node, ("sh", "-c", "cat; echo bad >&2; exit 7"), stdin=True) as session:
            session.send(b"to and fro")
            session.end_input()
            # The engine promises no order between the two streams.
            assert sorted(session) == [("stderr", b"bad\n"), ("stdout", b"to and fro")]
            assert session.exit_code() == 7

    def test_a_terminal(self, engine, bare_node):
        with engine.execute(bare_node, ("sh",), stdin=True, tty=True) as session:
            session.resize(33, 44)
            session.send(b"stty size; exit 3\n")
            text = b"".join(data for stream, data in session if stream == "stdout")
            assert b"33 44\r\n" in text
            assert session.exit_code() == 3

    def test_no_output_is_lost_however_early_it_comes(self, engine, bare_node):
        def work(wrong):
            for _ in range(10):
                if output(engine, bare_node, "echo", "x") != ("x\n", 0):
                    wrong.append(1)

        wrong = []
        threads = [threading.Thread(target=work, args=(wrong,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong

    def test_a_missing_command(self, engine, bare_node):
        assert output(engine, bare_node, "no-such-command")[1] in (126, 127)

    def test_closing_from_another_thread_ends_the_iteration(self, engine, bare_node):
        with engine.execute(bare_node, ("sleep", "infinity")) as session:
            timer = threading.Timer(0.3, session.close)
            timer.start()
            assert list(session) == []

    def test_in_a_container_that_is_not_running(self, engine, spec):
        with pytest.raises(EngineError):
            engine.execute(engine.create_container(spec), ("true",))
        with pytest.raises(NotFoundError):
            engine.execute("testbed-no-such-container", ("true",))


class TestNodeImage:
    @pytest.mark.parametrize(
        "command",
        [
            "python3 -c 'import vici, pyroute2, testbed.mobileip, testbed.node'",
            "test -x /usr/lib/ipsec/charon -a -x /sbin/testbed-init",
            "swanctl --help; tcpdump --version; fping --version; iperf3 --version; socat -V; command -v "
            "bird dnsmasq nft traceroute runsvdir",
            'test -z "$(ls -A /etc/service)" -a ! -L /etc/service',
        ],
    )
    def test_holds_what_nodes_run(self, engine, bare_node, command):
        text, code = output(engine, bare_node, "sh", "-ec", command)
        assert code == 0, text

    def test_is_compiled_already(self, engine, bare_node):
        script = "cd /usr/lib/python3/dist-packages; ls testbed/__pycache__ testbed/mobileip/__pycache__"
        text, code = output(engine, bare_node, "sh", "-c", script)
        assert code == 0 and "__init__.cpython-313.pyc" in text

    def test_an_image_is_saved_and_loaded_whole(self, engine, tmp_path):
        name, root = f"testbed-test:{uuid4().hex[:12]}", tmp_path / "root.tar"
        with tarfile.open(root, "w") as archive:
            archive.addfile(tarfile.TarInfo("etc"))
        engine.import_image(root, tag=name, changes=['LABEL org.testbed.test="saved"'])
        try:
            engine.save_image(name, tmp_path / "image.tar")
        finally:
            engine._api.remove_image(name)
        assert not engine.has_image(name)
        engine.load_image(tmp_path / "image.tar")
        try:
            assert engine.image_labels(name) == {"org.testbed.test": "saved"}
        finally:
            engine._api.remove_image(name)
        assert [one.name for one in tmp_path.iterdir() if "image" in one.name] == ["image.tar"]
        with pytest.raises(UsageError, match="cannot write"):
            engine.save_image(name, tmp_path / "no" / "image.tar")
        with pytest.raises(EngineError, match="cannot save"):
            engine.save_image(name, tmp_path / "other.tar")
        assert not (tmp_path / "other.tar").exists()
