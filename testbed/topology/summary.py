"""A loaded topology as plain data: what `show -o json` prints, and what a table or a report is made from."""

from __future__ import annotations

from typing import Any

from testbed.claim.outline import outline
from testbed.document.values import format_duration, format_rate
from testbed.topology.loaded import LoadedTopology
from testbed.topology.model import Network
from testbed.topology.roles import Setting
from testbed.topology.routes import static_routes


def summarize(loaded: LoadedTopology) -> dict[str, Any]:
    """Everything in a topology, with chosen options, defaults of settings and computed routes filled in."""
    topology = loaded.topology
    return {
        "name": topology.name,
        "title": topology.title,
        "source": topology.source,
        "summary": topology.summary.strip(),
        "file": loaded.file,
        "options": {
            name: {
                "value": loaded.options[name],
                "default": option.default,
                "choices": option.choices,
                "help": option.help,
            }
            for name, option in topology.options.items()
        },
        "networks": {
            name: {
                "subnet": str(network.subnet),
                "domain": network.domain,
                "medium": network.medium,
                "hub": network.hub,
                "delay_ms": network.delay,
                "jitter_ms": network.jitter,
                "loss_percent": network.loss,
                "rate_bps": network.rate,
                "nodes": {node: str(address) for node, address in topology.linked(name).items()},
                "attachable": [node for node in topology.nodes if name in topology.nodes[node].attaches],
            }
            for name, network in topology.networks.items()
        },
        "nodes": {name: _node(loaded, name) for name in topology.nodes},
        "configurations": [one.model_dump() for one in topology.configurations],
        "deployed": list(topology.deployed),
        "claims": {
            name: one.model_dump(include={"says", "source", "shows", "problem", "drawback"}) | outline(one)
            for name, one in topology.claims.items()
        },
    }


def _node(loaded: LoadedTopology, name: str) -> dict[str, Any]:
    node = loaded.node(name)
    declared = {key: setting for role in loaded.node_roles(name) for key, setting in role.settings.items()}
    primary = loaded.primary_address(name)
    return {
        "roles": list(node.roles),
        "address": str(primary) if primary else None,
        "links": {network: str(loaded.interface(name, network)) for network in node.links},
        "attaches": list(node.attaches),
        "settings": {key: setting_text(declared[key], value) for key, value in loaded.settings[name].items()},
        "routes": [str(route) for route in static_routes(loaded, name)],
        "image": node.image,
    }


def setting_text(setting: Setting, value: Any) -> Any:
    """A setting's value as it would be written in a topology file."""
    if isinstance(value, tuple):
        return [setting_text(setting, one) for one in value]
    if setting.type in ("duration", "lifetime") and value is not None:
        return format_duration(value)
    return value if value is None or isinstance(value, bool | int) else str(value)


def impairments(network: Network) -> str:
    """What a network's hub does to packets, in words: `40ms ±5ms, 1% lost, 10mbit`."""
    words = []
    if network.delay or network.jitter:
        jitter = f" ±{format_duration(network.jitter)}" if network.jitter else ""
        words.append(f"{format_duration(network.delay)}{jitter}")
    if network.loss:
        words.append(f"{network.loss:g}% lost")
    if network.rate:
        words.append(format_rate(network.rate))
    return ", ".join(words)
