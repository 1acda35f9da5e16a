"""What this machine can do, found out by trying it: the engine, its containers, images, addresses.

What the kernel can is tried in a throwaway container: nodes live in one, and the engine may be elsewhere.
"""

from __future__ import annotations

import platform
import shlex
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import uuid4

from testbed.agreed import ESP_REMEDY, ESP_TRIAL
from testbed.engine import bootstrap, provision
from testbed.engine.api import PIDS_LIMIT, Engine, EngineError, EngineFacts
from testbed.engine.docker import DockerEngine
from testbed.engine.image import BASE_LABEL, PUBLIC_BASE, base_image_name, ensure_node_image, node_image_name
from testbed.engine.podman import PODMAN
from testbed.errors import TestbedError
from testbed.lab.addresses import POOL_VARIABLE, choose_pool
from testbed.lab.isolation import try_to_reach_host
from testbed.lab.limits import (
    MEMORY_FIX,
    NEIGHBOURS_FIX,
    free_addresses,
    free_memory,
    free_neighbours,
    neighbour_limit,
)
from testbed.lab.throwaway import run_throwaway
from testbed.lab.wire import REMEDY, unanswered

OLDEST_API: Final = (1, 41)
DISK_NEEDED: Final = 1.0  # GiB: the base image and the layers of a few labs
DISK_COMFORTABLE: Final = 4.0  # GiB
POOL_NEEDED: Final = 256  # addresses: about what one lab takes
POOL_COMFORTABLE: Final = 2048  # addresses
NEIGHBOURS_OF_LAB: Final = 33  # entries that a lab of scenario-2.1 takes
NEIGHBOURS_COMFORTABLE: Final = 8 * NEIGHBOURS_OF_LAB
MEMORY_COMFORTABLE: Final = 1 << 30  # bytes: two labs
LABEL: Final = "org.testbed.doctor"
WHOLE_SECONDS_BEFORE: Final = 5  # the version of Podman whose logs have times in nanoseconds
# What tests run on this machine instead of in nodes: the program, its Debian packages, what it is for.
# tests/conftest.py lets them run no other.
TEST_PROGRAMS: Final = {
    "tshark": (("tshark",), "decodes the captures of tests"),
    "mergecap": (("wireshark-common",), "joins the captures of tests"),
    "docker-compose": (("docker-compose",), "runs labs that tests export"),
    "linux.uml": (("user-mode-linux",), "gives tests an ordinary kernel, for what this machine's may lack"),
    "busybox": (("busybox-static",), "loads the modules of that kernel"),
}

Say = Callable[[str], None]


class Level(StrEnum):
    """How bad it is."""

    OK = "OK"
    WARN = "WARN"  # works, with less speed or with trouble later
    FAIL = "FAIL"  # labs do not come up


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at, and what to do about it."""

    name: str
    level: Level
    detail: str
    fix: str | None = None


def examine(say: Say, *, fix: bool = False, tests: bool = False) -> Iterator[Check]:
    """Yield the checks as they are made; those that an earlier failure makes pointless are left out.

    `fix` installs and starts the engine and builds the node image where they are missing, saying so first.
    `tests` also looks at (and with `fix` installs) what the test suite uses besides.
    """
    if fix:
        provision.allow()
    try:
        engine = provision.reach_engine(say)
    except TestbedError as error:
        yield Check("engine", Level.FAIL, error.message, error.hint)
    else:
        with closing(engine):
            yield from _examine_engine(engine, say, fix=fix)
    if tests:
        for program, (packages, purpose) in TEST_PROGRAMS.items():
            yield _program(program, packages, purpose, say)


def _examine_engine(engine: DockerEngine, say: Say, *, fix: bool) -> Iterator[Check]:
    facts = engine.facts()
    yield Check("engine", Level.OK, f"{facts.name} {facts.version} at {facts.address}")
    yield _api(facts)
    yield from _times(facts)
    image = yield from _image(engine, say, fix=fix)
    if image is not None:
        yield from _container(engine, image)
        yield _wire(engine, image)
        yield _isolation(engine, image)
    yield _pool(engine)
    if facts.kernel == platform.release():  # else the engine is on another machine
        yield from _shared()


def _api(facts: EngineFacts) -> Check:
    oldest = ".".join(map(str, OLDEST_API))
    if tuple(int(part) for part in facts.api.split(".")) < OLDEST_API:
        fix = "update Docker Engine to 20.10 or later"
        return Check("api", Level.FAIL, f"{facts.api} is older than {oldest}", fix)
    return Check("api", Level.OK, f"{facts.api} (at least {oldest})")


def _times(facts: EngineFacts) -> Iterator[Check]:
    if facts.name == PODMAN and int(facts.version.partition(".")[0]) < WHOLE_SECONDS_BEFORE:
        detail = "its logs have whole seconds: `testbed measure` and timelines are off by up to 1 s"
        fix = f"use Podman {WHOLE_SECONDS_BEFORE} or Docker Engine"
        yield Check("times", Level.WARN, detail, fix)


def _program(name: str, packages: Sequence[str], purpose: str, say: Say) -> Check:
    try:
        provision.require(name, packages, say, why=purpose)
    except TestbedError as error:
        return Check(name, Level.WARN, error.message, error.hint)
    return Check(name, Level.OK, purpose)


def _image(engine: DockerEngine, say: Say, *, fix: bool) -> Generator[Check, None, str | None]:
    """Check the node image and, without it, where it would come from; return an image to try things in."""
    node, base = node_image_name(), base_image_name()
    if fix:
        try:
            ensure_node_image(engine, say)
        except TestbedError as error:
            yield Check("image", Level.FAIL, error.message, error.hint)
            return None
    if engine.has_image(node):
        yield Check("image", Level.OK, f"{node}, made from {engine.image_labels(node).get(BASE_LABEL)}")
        return node
    if engine.has_image(base):
        yield Check("image", Level.OK, f"{node} is not built yet; its base is there, so that takes a second")
        return base
    how = "testbed build (or the next up) builds it; the checks in a container come after that"
    if engine.offers_image(PUBLIC_BASE):
        yield Check("image", Level.WARN, f"not built yet; the registry offers {PUBLIC_BASE}", how)
    elif mirror := bootstrap.host_mirror():
        yield Check("image", Level.WARN, f"not built yet; no registry, but the Debian mirror {mirror}", how)
        yield _program(bootstrap.TOOL, bootstrap.TOOL_PACKAGES, bootstrap.PURPOSE, say)
    else:
        detail = f"not built yet; no registry offers {PUBLIC_BASE}, and apt here uses no Debian mirror"
        yield Check("image", Level.FAIL, detail, "testbed build --mirror URL, or --base IMAGE")
    return None


def _pool(engine: DockerEngine) -> Check:
    """Check that throwaway subnets are left, beside the engine's networks and this host's routes."""
    try:
        pool = choose_pool()
    except TestbedError as error:
        return Check("addresses", Level.FAIL, error.message, error.hint)
    free = free_addresses(pool, engine.networks())
    detail = f"{free} of {pool.num_addresses} addresses of the pool {pool} are free"
    if free < POOL_COMFORTABLE:
        level = Level.FAIL if free < POOL_NEEDED else Level.WARN
        return Check("addresses", level, detail, f"set {POOL_VARIABLE} to a prefix that nothing else uses")
    return Check("addresses", Level.OK, detail)


def _shared() -> Iterator[Check]:
    """Check what all labs of a machine share beside addresses."""
    neighbours, memory = free_neighbours(), free_memory()
    if neighbours is not None:
        detail = (
            f"{neighbours} of {neighbour_limit()} entries of the kernel's neighbour table are free, "
            f"enough for some {max(0, neighbours) // NEIGHBOURS_OF_LAB} labs of scenario-2.1"
        )
        enough = neighbours >= NEIGHBOURS_COMFORTABLE
        yield Check(
            "neighbours", Level.OK if enough else Level.WARN, detail, None if enough else NEIGHBOURS_FIX
        )
    if memory is not None:
        detail = f"{memory / (1 << 30):.1f} GiB of memory are free"
        enough = memory >= MEMORY_COMFORTABLE
        yield Check("memory", Level.OK if enough else Level.WARN, detail, None if enough else MEMORY_FIX)


# In a container


@dataclass(frozen=True, slots=True)
class _Trial:
    """A command that succeeds where the kernel and the engine allow what nodes do."""

    name: str
    command: str
    fix: str
    otherwise: str | None = None  # what nodes do without; None: they cannot do without


_TRIALS: Final = (
    _Trial(
        "tun",
        "ip tuntap add dev probe-tun mode tun",
        "load the module tun on the engine's host; under SELinux: setsebool container_use_devices on",
    ),
    _Trial("net-admin", "ip address add 192.0.2.1/32 dev lo", "let the engine grant NET_ADMIN"),
    _Trial("rules", "ip rule add pref 99 from 192.0.2.1 lookup 99", "use a kernel with policy routing"),
    _Trial("nftables", "nft add table netdev probe", "load the module nf_tables on the engine's host"),
    _Trial(
        "ipip",
        "ip link add probe-ipip type ipip local 192.0.2.1 remote 192.0.2.2",
        "load the module ipip on the engine's host",
        "Mobile IP tunnels run through TUN in userspace",
    ),
    _Trial(
        "gre",
        "ip link add probe-gre type gre local 192.0.2.1 remote 192.0.2.2",
        "load the module ip_gre on the engine's host",
        "Mobile IP tunnels in GRE run through TUN in userspace",
    ),
    _Trial(
        "esp",
        f"sh -ec {shlex.quote(ESP_TRIAL)}",
        ESP_REMEDY,
        "ESP runs in userspace (kernel-libipsec), and nftables emulates the policy of VPN clients",
    ),
    _Trial(
        "netem",
        "tc qdisc add dev lo root netem delay 1ms",
        "load the module sch_netem on the engine's host",
        "a relay over TUN in userspace delays packets",
    ),
    _Trial(
        "vxlan",
        "sh -ec 'ip link add probe-vxlan type vxlan id 1 dstport 4789; "
        "ip link add probe-macvlan link probe-vxlan type macvlan mode bridge'",
        "load the modules vxlan and macvlan on the engine's host",
        "a lab on several engines cannot have nodes here",
    ),
)


# What the engine says where a container does not start, and what to do about it.
_STARTS_WITH: Final = {
    "/dev/net/tun": "load the module tun on the engine's host",
    "setrlimit": "set default_ulimits (nofile, nproc) in the engine's /etc/containers/containers.conf to "
    "what its service itself may use: prlimit shows that",
}


def _container(engine: DockerEngine, image: str) -> Iterator[Check]:
    try:
        answers = try_in_container(engine, image)
    except EngineError as error:
        fix = next((fix for words, fix in _STARTS_WITH.items() if words in error.message), error.hint)
        yield Check("container", Level.FAIL, error.message, fix)
        return
    forwards = answers.get("forwarding") == "1"
    yield Check(
        "container",
        Level.OK if forwards else Level.FAIL,
        "starts with /dev/net/tun and forwards packets" if forwards else "net.ipv4.ip_forward cannot be set",
        None if forwards else "let the engine set net.* sysctls for containers",
    )
    for trial in _TRIALS:
        reason = answers.get(trial.name, "no answer")
        if not reason:
            yield Check(trial.name, Level.OK, "works")
        elif trial.otherwise is None:
            yield Check(trial.name, Level.FAIL, reason, trial.fix)
        else:
            yield Check(trial.name, Level.WARN, f"not in this kernel: {trial.otherwise}", trial.fix)
    yield _limits(answers.get("processes", ""))
    yield _disk(answers.get("disk", ""))


def _wire(engine: DockerEngine, image: str) -> Check:
    """Say whether packets pass a lab's network as they would a wire."""
    try:
        missing = unanswered(engine, image, LABEL)
    except TestbedError as error:
        return Check("wire", Level.WARN, f"could not be tried: {error}")
    if missing:
        detail = f"the host's firewall drops packets on lab networks: answers to {' and '.join(missing)}"
        return Check("wire", Level.WARN, detail, REMEDY)
    return Check("wire", Level.OK, "networks pass multicast, broadcast, and answers to both")


def _isolation(engine: DockerEngine, image: str) -> Check:
    """Say what a node's root reaches of the host, and which of the host's own settings would end that."""
    try:
        reach = try_to_reach_host(engine, image, LABEL)
    except (TestbedError, LookupError, ValueError) as error:
        return Check("isolation", Level.WARN, f"could not be tried: {error}")
    if reach.answers:
        detail = "this engine's host answers nodes: their root reaches its services"
        return Check("isolation", Level.WARN, detail, "update Docker Engine; run only labs that you trust")
    found = [
        ("takes in IPv4 packets of nodes without answering", "net.ipv4.conf.all.rp_filter=1", reach.takes),
        ("speaks IPv6 on their links", "net.ipv6.conf.default.disable_ipv6=1", reach.ipv6),
    ]
    if details := [detail for detail, _, seen in found if seen]:
        settings = " ".join(setting for _, setting, seen in found if seen)
        fix = f"where labs are not trusted, on the engine's host before testbed up: sysctl -w {settings}"
        return Check("isolation", Level.WARN, f"the host {' and '.join(details)}", fix)
    return Check("isolation", Level.OK, "nodes reach nothing of the engine's host")


def _limits(processes: str) -> Check:
    """Judge the limit of processes that the container had."""
    if processes != str(PIDS_LIMIT):
        detail = "this engine limits neither processes nor memory of nodes"
        fix = "where labs are not trusted: cgroup v2 on the engine's host, or an engine that runs as root"
        return Check("limits", Level.WARN, detail, fix)
    return Check("limits", Level.OK, f"nodes have {PIDS_LIMIT} processes at most")


def _disk(available: str) -> Check:
    """Judge the space below the engine's layers, in KiB as `df` prints it."""
    if not available.isdigit():
        return Check("disk", Level.WARN, f"the free space is not known: {available or 'no answer'}")
    free = int(available) / (1 << 20)
    detail = f"{free:.1f} GiB free for the engine"
    if free < DISK_COMFORTABLE:
        level = Level.FAIL if free < DISK_NEEDED else Level.WARN
        return Check("disk", level, detail, "docker image prune; docker system df shows what takes it")
    return Check("disk", Level.OK, detail)


def try_in_container(engine: Engine, image: str) -> dict[str, str]:
    """Try what nodes do in a throwaway container; return the error of each trial by its name ("" is success).

    Raises `EngineError`.
    """
    script = [
        'try() { name=$1; shift; reason=$("$@" 2>&1) && reason=; echo "$name|"$reason; }',
        *(f"try {trial.name} {trial.command}" for trial in _TRIALS),
        'echo "forwarding|$(cat /proc/sys/net/ipv4/ip_forward)"',
        'echo "processes|$(cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>&- | head -n 1)"',
        'echo "disk|$(df --output=avail / | tail -n 1 | tr -d " ")"',
    ]
    name = f"testbed-doctor-{uuid4().hex[:8]}"
    command = ("sh", "-c", "\n".join(script))
    sysctls = {"net.ipv4.ip_forward": "1"}
    lines = run_throwaway(engine, name, image, command, label=LABEL, sysctls=sysctls)
    return {name: text.strip() for name, _, text in (line.partition("|") for line in lines)}
