"""With what an experiment was made, and on which machine: versions.json."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version

from testbed.engine.api import Engine
from testbed.errors import StepError
from testbed.evidence.verdicts import LabFacts
from testbed.evidence.versions import EngineFacts, Machine, Versions
from testbed.lab.access import LabAccess

_PACKAGES = ("strongswan-charon", "bird2", "dnsmasq-base", "nftables", "tcpdump", "python3", "runit")
_MODELS = ("model name", "Model", "Hardware")
"""What /proc/cpuinfo calls the processor's model: on x86, and on ARM where it says so."""


def own_version() -> str:
    """The version of the testbed; empty where it runs from files that were never installed."""
    try:
        return version("testbed")
    except PackageNotFoundError:
        return ""


def versions(
    engine: Engine,
    image: str = "",
    *,
    keys: bool = False,
    programs: Mapping[str, str] | None = None,
    machine: Machine | None = None,
    backends: Mapping[str, LabFacts] | None = None,
) -> Versions:
    """What versions.json says of an experiment that has ended now; `image` is that of its nodes.

    Raises `EngineError`.
    """
    facts = engine.facts()
    return Versions(
        testbed=own_version(),
        finished=datetime.now().astimezone().isoformat(timespec="seconds"),
        engine=EngineFacts(
            name=facts.name, version=facts.version, api=facts.api, kernel=facts.kernel, host=facts.host
        ),
        keys=keys,
        image=image,
        image_id=engine.image_id(image) if image else "",
        machine=machine,
        programs=dict(programs or {}),
        backends=dict(backends or {}),
    )


def read_programs(access: LabAccess) -> dict[str, str]:
    """Package → version in a lab's mobile node. Raises `StepError`."""
    done = access.execute(
        access.mobile_node, ["dpkg-query", "-W", "-f", "${Package} ${Version}\\n", *_PACKAGES]
    )
    return dict(line.split(" ", 1) for line in done.text.splitlines() if line.count(" ") == 1)


def read_machine(access: LabAccess) -> Machine:
    """The machine that a lab's nodes run on, as its mobile node sees it now. Raises `StepError`."""
    text = access.execute(access.mobile_node, ["cat", "/proc/loadavg", "/proc/cpuinfo"]).text
    load, _, cpuinfo = text.partition("\n")
    pairs = (line.partition(":") for line in cpuinfo.splitlines())
    lines = [(key.strip(), value.strip()) for key, _, value in pairs]
    try:
        return Machine(
            cpu=next((value for name in _MODELS for key, value in lines if key == name), ""),
            cpus=sum(key == "processor" for key, _ in lines),
            load=float(load.split()[0]),
        )
    except (ValueError, IndexError) as error:
        raise StepError(f"{access.mobile_node}: /proc/loadavg says {load!r}") from error
