"""Docker Engine (API 1.41 and later: 20.10 … 28) behind the protocols `api.Engine` and `image.Builder`.

Uses the SDK's low-level client: one HTTP request per call, no object is fetched again after it was made.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, ip_network
from typing import Any, Final

import docker

from testbed.engine.api import (
    BASE_CAPABILITIES,
    Container,
    ContainerSpec,
    Endpoint,
    EngineError,
    EngineFacts,
    LogStream,
    Network,
    NetworkSpec,
    NotFoundError,
)
from testbed.engine.docker_images import DockerImages
from testbed.engine.ssh import SshTunnel
from testbed.engine.streams import DockerExec, DockerLog
from testbed.engine.translate import errors, only_file, raise_for_status

TUN_DEVICE: Final = "/dev/net/tun"

# A bridge that is a plain wire. The second option is unknown before Engine 28 and indispensable there: else
# raw-PREROUTING rules drop every packet that a container router forwards while br_netfilter is on. The third
# leaves the host's end without address and route: the host answers nobody, for it has no way back into a lab.
BRIDGE_OPTIONS: Final = {
    "com.docker.network.bridge.enable_ip_masquerade": "false",
    "com.docker.network.bridge.gateway_mode_ipv4": "nat-unprotected",
    "com.docker.network.bridge.inhibit_ipv4": "true",
}
# Explicit: an engine's default may be a driver that cannot be read back. Bounded: a lab may run for days.
LOG_CONFIG: Final = docker.types.LogConfig(type="json-file", config={"max-size": "20m", "max-file": "2"})
_ENDS_WITHIN: Final = 60
"""Seconds within which a container that was killed ends."""


class DockerEngine(DockerImages):
    """The calls of `api.Engine` and `image.Builder`; safe to share between threads."""

    def __init__(self, api: docker.APIClient, address: str, tunnel: SshTunnel | None = None) -> None:
        super().__init__(api)
        self.address = address
        self.members: tuple[str, ...] = ()
        self.lost: Mapping[str, str] = {}
        self._tunnel = tunnel  # what `api` reaches it through, ended with it

    def facts(self) -> EngineFacts:
        """Say what engine this is."""
        with errors("ask the engine what it is"):
            info = self._api.info()
        return EngineFacts(
            name="Docker Engine",
            version=info["ServerVersion"],
            api=self._api.api_version,
            kernel=info["KernelVersion"],
            address=self.address,
            cpus=info["NCPU"],
            memory=info["MemTotal"],
            host=info["Name"],
            architecture=info["Architecture"],
        )

    def close(self) -> None:
        """Give back connections."""
        self._api.close()
        if self._tunnel:
            self._tunnel.close()

    # Networks

    def networks(self, labels: Mapping[str, str] | None = None) -> list[Network]:
        """List networks with all of `labels`; None lists every network."""
        with errors("list networks"):
            found = self._api.networks(filters={"label": _label_filter(labels or {})})
        return [
            Network(
                id=each["Id"], name=each["Name"], labels=each["Labels"] or {}, subnets=tuple(_subnets(each))
            )
            for each in found
        ]

    def create_network(self, spec: NetworkSpec) -> str:
        """Create a bridge that is a plain wire, or a macvlan of `parent`."""
        pool = docker.types.IPAMPool(subnet=str(spec.subnet))
        with errors(f"create network {spec.name} ({spec.subnet})"):
            made = self._api.create_network(
                spec.name,
                driver="macvlan" if spec.parent else "bridge",
                options={"parent": spec.parent} if spec.parent else dict(BRIDGE_OPTIONS),
                ipam=docker.types.IPAMConfig(driver="default", pool_configs=[pool]),
                check_duplicate=True,
                labels=dict(spec.labels),
            )
        return str(made["Id"])

    def remove_network(self, id: str) -> None:
        """Remove a network. A missing one is fine."""
        with contextlib.suppress(NotFoundError), errors(f"remove network {id[:12]}"):
            self._api.remove_network(id)

    # Containers

    def containers(self, labels: Mapping[str, str]) -> list[Container]:
        """List containers, running or not, that carry all of `labels`."""
        with errors("list containers"):
            found = self._api.containers(all=True, filters={"label": _label_filter(labels)})
        return [
            Container(
                id=each["Id"],
                name=each["Names"][0].removeprefix("/") if each["Names"] else each["Id"],
                labels=each["Labels"] or {},
                state=each["State"],
                status=each["Status"],
                image=each["Image"],
            )
            for each in found
        ]

    def create_container(self, spec: ContainerSpec) -> str:
        """Create a container with its endpoints and files. When a step fails nothing of it is left."""
        first, *others = spec.endpoints or (None,)
        host = self._api.create_host_config(
            network_mode="host" if spec.host_network else first.network if first else "none",
            cap_drop=["ALL"],
            cap_add=sorted(BASE_CAPABILITIES | spec.capabilities),
            security_opt=["no-new-privileges"],
            devices=[f"{TUN_DEVICE}:{TUN_DEVICE}:rwm"],
            sysctls=dict(spec.sysctls),
            nano_cpus=round(spec.cpus * 1e9) if spec.cpus else None,
            mem_limit=spec.memory,
            pids_limit=spec.pids,
            log_config=LOG_CONFIG,
        )
        with errors(f"create container {spec.name}"):
            made = self._api.create_container(
                spec.image,
                command=list(spec.command) if spec.command is not None else None,
                name=spec.name,
                hostname=spec.hostname,
                environment=dict(spec.environment),
                labels=dict(spec.labels),
                host_config=host,
                networking_config={"EndpointsConfig": {first.network: self._endpoint(first)}}
                if first
                else None,
                use_config_proxy=False,
            )
            id = str(made["Id"])
            try:
                # One endpoint per create call is all that API < 1.44 takes.
                for endpoint in others:
                    assert endpoint is not None
                    self._api.connect_container_to_network(
                        id,
                        endpoint.network,
                        ipv4_address=str(endpoint.address),
                        mac_address=link_address(endpoint.address),
                    )
                if spec.archive:
                    self._api.put_archive(id, "/", spec.archive)
            except BaseException:
                with contextlib.suppress(EngineError):
                    self.remove_container(id)
                raise
        return id

    def _endpoint(self, endpoint: Endpoint) -> dict[str, Any]:
        return dict(
            self._api.create_endpoint_config(
                ipv4_address=str(endpoint.address), mac_address=link_address(endpoint.address)
            )
        )

    def start_container(self, id: str) -> None:
        """Start it."""
        with errors(f"start container {id[:12]}"):
            self._api.start(id)

    def remove_container(self, id: str) -> None:
        """Kill and remove it with its volumes. A missing one, or one being removed already, is fine."""
        try:
            self._remove_container(id)
        except EngineError as error:
            if "did not receive an exit event" not in error.message:
                raise
            # The engine killed it, and waited for its end no longer: so it is on a busy machine.
            with contextlib.suppress(NotFoundError), errors(f"wait for the end of container {id[:12]}"):
                self._api.wait(id, timeout=_ENDS_WITHIN, condition="not-running")
            self._remove_container(id)

    def _remove_container(self, id: str) -> None:
        try:
            with errors(f"remove container {id[:12]}"):
                self._api.remove_container(id, v=True, force=True)
        except NotFoundError:
            pass
        except EngineError as error:
            if "already in progress" not in error.message:
                raise

    def logs(
        self,
        id: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        stdout: bool = True,
        stderr: bool = True,
    ) -> LogStream:
        """Read a started container's log; following one that does not run ends where its log ends."""
        with errors(f"read the log of container {id[:12]}"):
            response = self._api.get(
                self._url(f"/containers/{id}/logs"),
                params={
                    "stdout": int(stdout),
                    "stderr": int(stderr),
                    "follow": int(follow),
                    "timestamps": 1,
                    "tail": "all" if tail is None else tail,
                },
                stream=True,
                timeout=None,
            )
            raise_for_status(response)
        return DockerLog(response)

    def read_file(self, id: str, path: str) -> bytes:
        """Return the content of a file of a container, running or not."""
        with errors(f"read {path} in container {id[:12]}"):
            return only_file(self._api.get_archive(id, path)[0])

    def execute(
        self, id: str, command: Sequence[str], *, stdin: bool = False, tty: bool = False
    ) -> DockerExec:
        """Run a command in a running container."""
        with errors(f"run {command[0]} in container {id[:12]}"):
            exec_id = self._api.exec_create(id, list(command), stdin=stdin, tty=tty)["Id"]
            # Without "Upgrade" the engine answers 200 and an ordinary endless body.
            response = self._api.post(
                self._url(f"/exec/{exec_id}/start"),
                json={"Detach": False, "Tty": tty},
                stream=True,
                timeout=None,
            )
            raise_for_status(response)

        def inspect() -> dict[str, Any]:
            with errors(f"ask how {command[0]} ended"):
                return dict(self._api.exec_inspect(exec_id))

        def resize(rows: int, columns: int) -> None:
            # The command may have ended, or not begun yet: its size is no matter then.
            with contextlib.suppress(EngineError), errors("resize a terminal"):
                self._api.exec_resize(exec_id, height=rows, width=columns)

        return DockerExec(response, tty=tty, inspect=inspect, resize=resize)

    def _url(self, path: str) -> str:
        return f"{self._api.base_url}/v{self._api.api_version}{path}"


def link_address(address: IPv4Address) -> str:
    """Return the link address that engines before 28 give to an IPv4 address of their own accord.

    Later ones make one up each time, so that a container's neighbours would send to its predecessor.
    """
    return bytes([0x02, 0x42, *address.packed]).hex(":")


def _label_filter(labels: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" if value else key for key, value in labels.items()]


def _subnets(network: Mapping[str, Any]) -> Iterator[IPv4Network]:
    for pool in network["IPAM"]["Config"] or ():
        subnet = ip_network(pool["Subnet"], strict=False)
        if isinstance(subnet, IPv4Network):
            yield subnet
