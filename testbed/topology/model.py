"""The model of a topology file: what may be written, what it means, in which unit it is kept.

The YAML is validated against these classes (`load`); the JSON Schema for editors comes from them (`schema`).
What needs more than one place of the file to decide is in `check`.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from testbed.claim.claims import Claim, ClaimId, Guideline, GuidelineId
from testbed.document.part import Attachment as Attachment
from testbed.document.part import Part as Part
from testbed.document.part import Stack as Stack
from testbed.document.values import Address, Delay, Expected, Name, Percent, Prefix, Rate, RoutePrefix

MOST_NODES = 1000
"""More than an engine starts: the kernel's neighbour table and a bridge's ports end near 1,000."""

MOST_NETWORKS = 1000
MOST_CLAIMS = 1000

Domain = Literal["internet", "dmz", "intranet", "operator"]
Medium = Literal["wired", "wireless"]
OptionScalar = bool | int | float | str


def _topology_name(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"[a-z][a-z0-9.-]*", value) and len(value) <= 40:
        return value
    raise Expected(
        "a name of lower-case letters, digits, hyphens and dots, a letter first, at most 40 characters"
    )


def _scalar(value: Any) -> OptionScalar:
    if isinstance(value, bool | int | float | str):
        return value
    raise Expected("text, a number, true or false")


TopologyName = Annotated[
    str,
    BeforeValidator(_topology_name),
    WithJsonSchema({"type": "string", "pattern": "^[a-z][a-z0-9.-]*$", "maxLength": 40}),
]
Scalar = Annotated[Any, BeforeValidator(_scalar), WithJsonSchema({"type": ["string", "number", "boolean"]})]


Image = Annotated[str, Field(min_length=1)]


class Option(Part):
    """A choice that the user of a topology has: `--set option.NAME=VALUE` (or `--stack`, `--attach`)."""

    default: Scalar = Field(description="The value unless the user chooses another")
    choices: list[Scalar] | None = Field(
        default=None, min_length=1, description="The values allowed; any if absent"
    )
    help: str = Field(default="", description="One sentence on what is chosen")

    def allows(self, value: object) -> bool:
        """Whether it is one of the choices, and not just equal to it as true is to 1."""
        return self.choices is None or any(type(one) is type(value) and one == value for one in self.choices)


class Network(Part):
    """A link with an IPv4 subnet, to which nodes are linked or mobile nodes attach."""

    subnet: Prefix = Field(description="The prefix of the link")
    domain: Domain = Field(description="To whom the network belongs: internet, dmz, intranet or operator")
    medium: Medium = Field(default="wired", description="What the link is made of; for drawings and reports")
    hub: Name | None = Field(
        default=None, description="The node that every packet between two other nodes of this network crosses"
    )
    # Added by the hub; on a network without one by the kernel of each node (netem).
    delay: Delay = Field(default=0.0, description="One-way delay added to each packet (kept in ms)")
    jitter: Delay = Field(default=0.0, description="Variation of the delay (kept in ms)")
    loss: Percent = Field(default=0.0, description="Share of packets that are dropped (in percent)")
    rate: Rate | None = Field(default=None, description="Limit of the data rate (kept in bit/s)")

    @property
    def impaired(self) -> bool:
        """Whether packets are delayed, dropped or shaped."""
        return bool(self.delay or self.jitter or self.loss or self.rate)


def _given(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


class Node(Part):
    """A machine: its roles, where it is linked, and what its roles need to know."""

    roles: list[Name] = Field(
        min_length=1, description="What the node does; each is declared in templates/roles/"
    )
    links: dict[Name, Address] = Field(default_factory=dict, description="Network → the node's address on it")
    attaches: list[Name] = Field(
        default_factory=list,
        description="Networks a mobile node can attach to, one at a time and without address",
    )
    settings: Annotated[dict[Name, Any], AfterValidator(_given)] = Field(
        default_factory=dict,
        description="Values for the settings of its roles; null takes away what an included file says",
    )
    routes: dict[RoutePrefix, Address] = Field(
        default_factory=dict, description="Prefix (or `default`) → next hop; overrides the computed route"
    )
    image: Image | None = Field(
        default=None, description="A container image of the node's own; overrides those of its roles"
    )

    @property
    def networks(self) -> tuple[str, ...]:
        """Every network the node has an interface on, links first."""
        return (*self.links, *self.attaches)


class Configuration(Part):
    """One way of combining Mobile IPv4 and IPsec, and the networks where it is tried."""

    stack: Stack = Field(description="The order of Mobile IPv4 and IPsec on the mobile node")
    attachment: Attachment = Field(
        description="Whose care-of address: the mobile node's own, or a foreign agent's"
    )
    networks: list[Name] = Field(min_length=1, description="The networks where the combination is tried")


class Selection(Part):
    """What section 3 of the document says of a scenario: one criterion quoted, the other to be computed."""

    practical: str = Field(
        min_length=1, description="Word for word, what the document says on how common and practical it is"
    )
    source: str = Field(min_length=1, description="Where these words stand")
    problems: TopologyName = Field(
        description="Which problems it may have: `any`, `none`, or those of the scenario named"
    )


class Topology(Part):
    """A whole topology file. Top-level keys that begin with `x-` are free for YAML anchors."""

    name: TopologyName = Field(description="The name of the topology, and of a lab brought up from it")
    title: str = Field(description="One line on what it shows")
    source: str = Field(default="", description="Where it comes from: sections and figures")
    summary: str = Field(default="", description="A paragraph for readers")
    options: dict[Name, Option] = Field(default_factory=dict, description="Choices with their defaults")
    networks: dict[Name, Network] = Field(
        min_length=1, max_length=MOST_NETWORKS, description="Networks by name"
    )
    nodes: dict[Name, Node] = Field(min_length=1, max_length=MOST_NODES, description="Nodes by name")
    place: dict[Name, Name] = Field(
        default_factory=dict,
        description="Node → the engine it is on, where `up --engine` names several; others are spread",
    )
    images: dict[Name, Image] = Field(
        default_factory=dict, description="Role → the container image of the nodes with this role"
    )
    configurations: list[Configuration] = Field(
        default_factory=list, description="The combinations of stack and attachment worth comparing"
    )
    deployed: list[Stack] = Field(
        default_factory=list, description="The stacks that the document deploys here: their problems count"
    )
    selection: Selection | None = Field(default=None, description="What the document says on choosing it")
    guidelines: dict[GuidelineId, Guideline] = Field(
        default_factory=dict, description="What solutions are judged by (`solutions`), by its section"
    )
    claims: dict[ClaimId, Claim] = Field(
        default_factory=dict,
        max_length=MOST_CLAIMS,
        description="What the document says about it, and what must be seen (`verify`)",
    )

    @property
    def hubs(self) -> dict[str, str]:
        """Network → the node that every packet on it crosses, for networks with one."""
        return {name: network.hub for name, network in self.networks.items() if network.hub}

    def linked(self, network: str) -> dict[str, IPv4Address]:
        """The nodes with an address on a network."""
        return {name: node.links[network] for name, node in self.nodes.items() if network in node.links}
