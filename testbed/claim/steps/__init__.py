"""What a claim can do: the verbs of the vocabulary. Each class is one word, its docstring the meaning.

Every step is bounded. What a step changed on purpose (IPsec taken down, a service stopped, a bypass
withdrawn) is put right at the end of the run, so that the next run finds the lab as it was. `testbed
vocabulary` prints the docstrings.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, model_validator

from testbed.claim.echo import Path
from testbed.claim.expect import Expectation
from testbed.claim.names import NodeName, NodeNames, Several, Short
from testbed.document.part import Part
from testbed.document.values import Duration, Expected, Name


class OfMobileNode(Short):
    """What a mobile node does, the topology's first unless it is named."""

    node: NodeName | None = Field(default=None, description="The mobile node (default: the topology's first)")


class Move(OfMobileNode):
    """The mobile node leaves its link and joins another; its connection manager does what the stack demands.

    The step ends when the manager has settled: with everything in place, or after its bounds without what it
    did not get. Expectations judge what is missing, unless `reaches` makes it a condition. Any mobile node
    but the first is moved back at the end of the run.
    """

    SHORT = "to"
    to: Several = Field(min_length=1, description="The network, or several, one after the other")
    times: int = Field(default=1, ge=1, le=1000, description="How often to go through the list")
    reaches: Literal["link", "address", "ike", "registered", "data"] | None = Field(
        default=None, description="What every move has to reach, or else the run is inconclusive"
    )


class Carry(OfMobileNode):
    """The mobile node gets another link and keeps everything else: address, IPsec session and registration.

    It is then on the network with its old address and its old security associations, as when a running IPsec
    session is carried to a new link; packets go to the router or agent of that link.
    """

    SHORT = "to"
    to: Name = Field(description="The network of the new link")


class Ping(Path):
    """Send echo requests; whether they are answered is recorded, and judged by expectations only."""

    count: int = Field(default=3, ge=1, le=100, description="How many, 200 ms apart")


class Session(Short):
    """A real TCP session with continuous data: lines go to the echo service of a correspondent node and come
    back.

    It runs from the mobile node's home address. `start` waits until the first line has come back.
    """

    SHORT = "action"
    action: Literal["start", "stop"] = Field(description="What to do with it")
    to: NodeName | None = Field(
        default=None, description="The correspondent node (default: the mobile node's `probe`)"
    )


class Probe(Short):
    """A stream of numbered UDP packets that the correspondent sends back; sending and receiving are
    time-stamped.

    It runs from the mobile node's home address. `start` waits until both ends run.
    """

    SHORT = "action"
    action: Literal["start", "stop"] = Field(description="What to do with it")
    to: NodeName | None = Field(
        default=None, description="The correspondent node (default: the mobile node's `probe`)"
    )
    every: Duration = Field(default=5.0, description="Time between packets (default 5ms)")


class Ipsec(OfMobileNode):
    """Take the mobile node's IPsec down, so that it uses none from then on, or allow it again."""

    SHORT = "state"
    state: Literal["up", "down"] = Field(description="Allowed, or taken down")


class Bypass(OfMobileNode):
    """Let Mobile IP past the mobile node's IPsec policy, or not.

    `off`: from its access links outside the mobile node accepts IKE, ESP, DHCP and ARP, nothing else. ESP in
    userspace cannot enforce that, so nftables does, and the evidence says `emulated`. `on`: the mobile node
    accepts everything.
    """

    SHORT = "state"
    state: Literal["on", "off"] = Field(description="`on`: it passes; `off`: it does not")


class Register(OfMobileNode):
    """The mobile node's Mobile IP daemon sends a registration request now.

    With a network: in clear on that link, through its foreign agent, whatever the stack says; outside, a VPN
    client has to let it pass (`passes: registrations`: the bypass policy, or split tunnelling). With `ipsec`:
    for the address that the VPN gateway lent, through the existing IPsec session. The step ends with the
    answer or when the daemon gives up, at the latest after `within`.
    """

    SHORT = "through"
    through: Name = Field(description="A network with a foreign agent, or `ipsec`")
    within: Duration = Field(default=4000.0, description="How long to wait for an answer (default 4s)")


class Send(Part):
    """Packets that the testbed makes and sends from a node's own address, as a real peer would send them."""

    from_: NodeName = Field(alias="from", description="The node that sends")
    to: NodeName = Field(description="The node whose address they go to")
    network: Name | None = Field(default=None, description="Which of its addresses (default: its first link)")
    protocol: Literal["esp", "ipip"] = Field(
        description="ESP with a random SPI, or IP-in-IP with a UDP packet inside"
    )
    inner: NodeName | None = Field(default=None, description="For ipip: the node the inner packet is for")
    count: int = Field(default=3, ge=1, le=100, description="How many")


class Service(Part):
    """Stop a daemon of a node, or start it again."""

    node: NodeName = Field(description="The node")
    name: str = Field(min_length=1, description="The service, as the role's manifest calls it")
    state: Literal["up", "down"] = Field(description="Started, or stopped")


class Run(Part):
    """Run a command in a node; an exit code other than 0 makes the run inconclusive."""

    node: NodeName = Field(description="The node")
    command: str = Field(min_length=1, description="A line for its shell")
    within: Duration = Field(default=10000.0, description="How long it may take (default 10s)")


class Flush(Short):
    """Home agents forget all bindings and foreign agents all visitors, without a message to anybody."""

    SHORT = "agents"
    agents: NodeNames = Field(min_length=1, description="The agents")


class Step(Part):
    """Exactly one thing to do."""

    move: Move | None = Field(default=None, description="The mobile node joins another network")
    carry: Carry | None = Field(
        default=None, description="Another link under the same address and IPsec session"
    )
    ping: Ping | None = Field(default=None, description="Send echo requests")
    session: Session | None = Field(default=None, description="Start or stop a TCP session")
    probe: Probe | None = Field(default=None, description="Start or stop the numbered packet stream")
    ipsec: Ipsec | None = Field(default=None, description="IPsec of the mobile node up or down")
    bypass: Bypass | None = Field(
        default=None, description="Let Mobile IP past the mobile node's IPsec policy, or not"
    )
    register_: Register | None = Field(
        default=None, alias="register", description="Send a registration request"
    )
    send: Send | None = Field(default=None, description="Send made-up packets")
    service: Service | None = Field(default=None, description="Stop or start a daemon")
    run: Run | None = Field(default=None, description="Run a command in a node")
    flush: Flush | None = Field(default=None, description="Agents forget bindings and visitors")
    wait_until: Expectation | None = Field(
        default=None,
        alias="wait-until",
        description="Wait until an expectation holds; the run is inconclusive if it does not `within` its "
        "time (default 5s)",
    )
    expect: Expectation | None = Field(
        default=None,
        description="An expectation judged at this point of the run; if it does not hold, the run ends here",
    )

    @model_validator(mode="wrap")
    @classmethod
    def _one(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        made = handler(data)
        if len(list(made.given())) != 1:
            raise Expected("exactly one step", "begin each with a `-` of its own")
        return made

    def given(self) -> Iterator[tuple[str, Any]]:
        """The keys that were written, with their values."""
        for name, field in type(self).model_fields.items():
            if (value := getattr(self, name)) is not None:
                yield field.alias or name, value

    @property
    def word(self) -> str:
        """The word of the vocabulary."""
        return next(self.given())[0]

    @property
    def part(self) -> Any:
        """What is to be done."""
        return next(self.given())[1]
