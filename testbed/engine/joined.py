"""Several engines as one (`api.Engine`), for labs that span them.

Labels say which engine a container is on (`names.ENGINE`), and of which engines its lab is made
(`names.ENGINES`): only labs of these engines are seen. A network exists on each engine, as a macvlan network
on a VXLAN device.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from testbed.engine import names, record
from testbed.engine.api import (
    Container,
    ContainerSpec,
    EngineError,
    EngineFacts,
    ExecSession,
    InUseError,
    LogStream,
    NameTakenError,
    Network,
    NetworkSpec,
    NotFoundError,
)
from testbed.engine.reachable import Member, Reachable
from testbed.engine.span import Say, Span, explore, in_each, meet
from testbed.engine.vtep import LIVE, Vtep
from testbed.errors import MachineError

_VTEP_MEMORY: Final = 64 * 1024 * 1024  # bytes
_INHERITED: Final = (names.LAB, names.TOPOLOGY, names.RUN, names.OWNER, names.SESSION)
"""The labels that a lab's tunnel end point has from the first of its networks or nodes."""


class JoinedEngine:
    """The calls of `api.Engine`; safe to share between threads.

    A container's id is `ENGINE/ID`; a network's is its name, the same on each engine.
    """

    def __init__(
        self,
        members: Mapping[str, Member],
        addresses: Mapping[str, str],
        say: Say,
        lost: Mapping[str, EngineError] | None = None,
    ) -> None:
        """`members` are those that answer, `addresses` where all are reached, `lost` why others are not."""
        self._engines = Reachable(members, addresses, say, lost or {})
        self._mark = {names.ENGINES: record.text(addresses)}
        self.vtep_image = ""
        """The image of new tunnel end points: the node image."""
        self._lock = threading.Lock()  # of `_spans`
        self._copying = threading.Lock()
        self._making = threading.Lock()  # a tunnel end point
        self._having: set[tuple[str, str]] = set()  # engine, image
        self._labels: dict[str, Mapping[str, str]] = {}  # of the networks that were seen, by name
        self._vteps: dict[str, Container] = {}  # the tunnel end points that were seen, by id
        self._spans: dict[str, _Spanning] = {}

    @property
    def address(self) -> str:
        """Where its engines are reached."""
        return self._engines.address

    @property
    def members(self) -> tuple[str, ...]:
        """The names of its engines."""
        return self._engines.names

    @property
    def lost(self) -> Mapping[str, str]:
        """The engines that do not answer: name → address."""
        return self._engines.lost

    @property
    def bare(self) -> Member:
        """The engine that images are built on; the others get them from it."""
        return self._engines.member(self._engines.first)

    def facts(self) -> EngineFacts:
        """Say what engines these are, as if they were one."""
        found = list(self._engines.each(lambda member: member.facts()).values())
        self._engines.check()

        def all_of(values: Iterable[str]) -> str:
            return " + ".join(dict.fromkeys(values))

        return EngineFacts(
            name=all_of(one.name for one in found),
            version=all_of(one.version for one in found),
            api=all_of(one.api for one in found),
            kernel=all_of(one.kernel for one in found),
            address=self.address,
            cpus=sum(one.cpus for one in found),
            memory=sum(one.memory for one in found),
            host=all_of(one.host for one in found),
            architecture=all_of(one.architecture for one in found),
        )

    def close(self) -> None:
        """Give back connections."""
        self._engines.close()

    # What is there

    def networks(self, labels: Mapping[str, str] | None = None) -> list[Network]:
        """List networks: those of the labs here as one each, and where all are asked for those of others."""
        found = self._engines.each(lambda member: member.networks(labels))
        others = [
            replace(network, id=f"{name}/{network.id}")
            for name, networks in found.items()
            for network in networks
            if not self._mine(network.labels) and labels is None
        ]
        parts: dict[str, list[Network]] = {}
        for network in (each for networks in found.values() for each in networks):
            if self._mine(network.labels):
                parts.setdefault(network.name, []).append(network)
                self._labels[network.name] = network.labels
        return [*others, *(self._whole(several, len(found)) for several in parts.values())]

    def _whole(self, parts: Sequence[Network], wanted: int) -> Network:
        """A network out of its parts; without its hash where some are missing, so that it is made anew."""
        labels = dict(parts[0].labels)
        if len(parts) < wanted:
            labels.pop(names.SPEC, None)
        return replace(parts[0], id=parts[0].name, labels=labels)

    def containers(self, labels: Mapping[str, str]) -> list[Container]:
        """List containers of the labs here, and where labs do not matter all others."""
        found = [
            replace(container, id=f"{name}/{container.id}")
            for name, containers in self._engines.each(lambda member: member.containers(labels)).items()
            for container in containers
            if names.LAB not in container.labels or self._mine(container.labels)
        ]
        self._vteps |= {each.id: each for each in found if names.VTEP in each.labels}
        return found

    def _mine(self, labels: Mapping[str, str]) -> bool:
        return names.LAB in labels and self._mark.items() <= labels.items()

    def image_id(self, name: str) -> str:
        """Return the digest of an image, which is the same on each of them that has it."""
        return self._engines.member(self._source(name) or self._engines.first).image_id(name)

    def has_image(self, name: str) -> bool:
        """Say whether one of them has this image: the others get it when they need it."""
        return self._source(name) is not None

    def _source(self, image: str) -> str | None:
        """An engine that has an image."""
        having = self._engines.each(lambda member: member.has_image(image))
        return next((name for name, has in having.items() if has), None)

    # Networks

    def create_network(self, spec: NetworkSpec) -> str:
        """Create a network on every engine, joined by a VXLAN."""
        lab = spec.labels[names.LAB]
        span = self.span(spec.labels)
        labels = {
            **spec.labels,
            **self._mark,
            names.MTU: str(span.mtu),
            names.VTEP: self.vtep_image,
        }
        taken = self._engines.each(lambda member: {network.name for network in member.networks()})
        if any(spec.name in one for one in taken.values()):
            raise NameTakenError(f"network with name {spec.name} already exists")
        self._labels[spec.name] = labels
        try:
            for name in self.members:
                parent = span.lay(name, lab, spec.name)
                with self._engines.asking(name) as member:
                    member.create_network(replace(spec, labels=labels, parent=parent))
        except BaseException:
            with contextlib.suppress(EngineError):
                self.remove_network(spec.name)
            raise
        return spec.name

    def remove_network(self, id: str) -> None:
        """Remove it everywhere, with its devices. A missing one is fine."""

        def remove(name: str) -> None:
            member = self._engines.member(name)
            for network in member.networks(self._mark):
                if network.name == id:
                    member.remove_network(network.id)
            if id in self._labels:
                self._vtep(name, self._labels[id]).cut([id])

        self._engines.on_each(remove)

    # Containers

    def create_container(self, spec: ContainerSpec) -> str:
        """Create a container on the engine that its label names; on the first where it is no lab's."""
        if names.LAB not in spec.labels:
            name = self._engines.first
            with self._engines.asking(name) as member:
                return f"{name}/{member.create_container(spec)}"
        self.span(spec.labels)
        name = spec.labels[names.ENGINE]
        self._fetch_image(name, spec.image)
        labels = {**spec.labels, **self._mark}
        with self._engines.asking(name) as member:
            return f"{name}/{member.create_container(replace(spec, labels=labels))}"

    def start_container(self, id: str) -> None:
        """Start it."""
        with self._of(id) as (member, own):
            member.start_container(own)

    def remove_container(self, id: str) -> None:
        """Kill and remove it; a tunnel end point with all devices of its lab. A missing one is fine."""
        vtep = self._vteps.get(id)
        with self._of(id) as (member, own):
            if vtep is not None and vtep.state != "created":  # else it has made no device yet
                with contextlib.suppress(NotFoundError):
                    if vtep.state != "running":
                        member.start_container(own)
                    Vtep(id.partition("/")[0], member, own).cut_all(vtep.labels[names.LAB])
            member.remove_container(own)
        if vtep is not None:
            lab = vtep.labels[names.LAB]
            self._spans.pop(lab, None)
            if self.lost:  # what they have is to be found again, and nothing else leads there
                record.remember(lab, self._engines.addresses)
            elif not self.containers({names.LAB: lab, names.VTEP: ""}):
                record.forget(lab)

    def logs(
        self,
        id: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        stdout: bool = True,
        stderr: bool = True,
    ) -> LogStream:
        """Read what it wrote since its first start (or the last lines), then follow."""
        with self._of(id) as (member, own):
            return member.logs(own, follow=follow, tail=tail, stdout=stdout, stderr=stderr)

    def read_file(self, id: str, path: str) -> bytes:
        """Return the content of a file of a container, running or not."""
        with self._of(id) as (member, own):
            return member.read_file(own, path)

    def execute(
        self, id: str, command: Sequence[str], *, stdin: bool = False, tty: bool = False
    ) -> ExecSession:
        """Run a command in a running container."""
        with self._of(id) as (member, own):
            return member.execute(own, command, stdin=stdin, tty=tty)

    @contextmanager
    def _of(self, id: str) -> Iterator[tuple[Member, str]]:
        """The engine that has a container, and the id that it has there."""
        name, _, own = id.partition("/")
        with self._engines.asking(name) as member:
            yield member, own

    # What spans them

    def trouble(self, lab: str) -> str | None:
        """Why the networks of a lab do not reach all of its engines at this time; None where they do."""
        try:
            vteps = {}
            for name in self.members:
                there = self._engines.member(name).containers({names.LAB: lab, names.VTEP: "", **self._mark})
                if not there or there[0].state != "running":
                    return f"engine {name}: what lays the wires of lab {lab} does not run"
                vteps[name] = Vtep(name, self._engines.member(name), there[0].id)
            meet(lab, vteps)
        except MachineError as error:
            return error.message
        return None

    def span(self, labels: Mapping[str, str]) -> Span:
        """How the lab with these labels spans the engines; found out, and mended, once in this process."""
        lab = labels[names.LAB]
        with self._lock:
            found = self._spans.setdefault(lab, _Spanning())
        with found.lock:
            if found.span is None:
                vteps = in_each(self.members, lambda name: self._vtep(name, labels))
                span = explore(lab, vteps, self._engines.say)
                self._mend(lab, span)
                found.span = span
            return found.span

    def _mend(self, lab: str, span: Span) -> None:
        """Lay the wires of networks that have lost theirs, as with a host that has started anew.

        An engine that started without the device of a network knows the network no more than by name.
        """
        for name, vtep in span.vteps.items():
            member, laid = self._engines.member(name), vtep.laid(lab)
            for network in member.networks({names.LAB: lab, **self._mark}):
                if network.name in laid:
                    continue
                parent = span.lay(name, lab, network.name, int(network.labels[names.MTU]))
                with contextlib.suppress(InUseError):  # by nodes that run: the engine has not started anew
                    member.remove_network(network.id)
                    member.create_network(
                        NetworkSpec(network.name, network.subnets[0], network.labels, parent)
                    )

    def _vtep(self, name: str, labels: Mapping[str, str]) -> Vtep:
        """The tunnel end point of a lab on an engine, made or started where that is needed."""
        lab = labels[names.LAB]
        with self._making, self._engines.asking(name) as member:
            there = member.containers({names.LAB: lab, names.VTEP: "", **self._mark})
            id = there[0].id if there else self._create_vtep(name, member, labels)
            if not there or there[0].state != "running":
                member.start_container(id)
        return Vtep(name, member, id)

    def _create_vtep(self, name: str, member: Member, labels: Mapping[str, str]) -> str:
        image = labels.get(names.VTEP) or self.vtep_image
        self._fetch_image(name, image)
        lab = labels[names.LAB]
        record.remember(lab, self._engines.addresses)  # before anything is there that has to be found again
        own = {**self._mark, names.ENGINE: name, names.VTEP: image}
        return member.create_container(
            ContainerSpec(
                name=names.vtep_name(lab),
                hostname="vtep",
                image=image,
                labels={key: labels[key] for key in _INHERITED if key in labels} | own,
                endpoints=(),
                archive=b"",
                command=LIVE,
                memory=_VTEP_MEMORY,
                host_network=True,
            )
        )

    def _fetch_image(self, name: str, image: str) -> None:
        """Give an engine an image that another of them has."""
        with self._copying:
            if (name, image) in self._having or self._engines.member(name).has_image(image):
                self._having.add((name, image))
                return
            source = self._source(image)
            if source is None:
                return  # to create a container of it fails, and says so
            self._engines.say(f"copying image {image} from engine {source} to engine {name}")
            with tempfile.TemporaryDirectory(prefix="testbed-") as folder:
                file = Path(folder) / "image.tar"
                with self._engines.asking(source) as having:
                    having.save_image(image, file)
                with self._engines.asking(name) as lacking:
                    lacking.load_image(file)


class _Spanning:
    """The span of a lab, found out by one thread while others wait."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.span: Span | None = None
