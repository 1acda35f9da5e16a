"""What carries packets in a lab, as its daemons and its nodes' kernels say."""

from __future__ import annotations

from testbed.lab.access import LabAccess


def read_carriers(access: LabAccess) -> dict[str, str]:
    """NODE/SERVICE or NODE/WHAT → what carries its packets. Raises `TestbedError` where a node is gone."""
    found: dict[str, str] = {}
    for node in access.topology.topology.nodes:
        for service in access.topology.reporting(node, "backend"):
            backend = access.state(node, str(service.control)).get("backend")
            if backend is not None:
                found[f"{node}/{service.control}"] = str(backend)
        for role in access.topology.node_roles(node):
            for what, carriers in role.carriers.items():
                for carrier in carriers:
                    if carrier.when is None or access.execute(node, ["sh", "-c", carrier.when]).code == 0:
                        found[f"{node}/{what}"] = carrier.by
                        break
    return found
