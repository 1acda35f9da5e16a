"""What a claim can expect to be seen: the nouns of the vocabulary. Each class is one word, its docstring the
meaning.

An expectation is decided by what was observed, never by configuration: packets captured at a tap, the state a
daemon reports, traffic that arrives or does not. `testbed vocabulary` prints this file's docstrings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import inf
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, ModelWrapValidatorHandler, WithJsonSchema, model_validator

from testbed.topology.filters import FilterError, filter_hosts
from testbed.topology.part import Part
from testbed.topology.values import Duration, Expected, Name, Prefix

IkeExchange = Literal["IKE_SA_INIT", "IKE_AUTH", "CREATE_CHILD_SA", "INFORMATIONAL"]
Daemon = Literal["mobile-node", "foreign-agent", "home-agent", "roam", "relay"]


def _tap(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"[a-z][a-z0-9-]*/[a-z][a-z0-9-]*", value):
        return value
    hint = f"{value}/NETWORK" if isinstance(value, str) and re.fullmatch(r"[a-z][a-z0-9-]*", value) else None
    raise Expected("a tap, written NODE/NETWORK, such as mn/hotel", hint)


def _pcap_filter(value: Any) -> Any:
    if isinstance(value, str) and "$" not in value:  # else it is judged once its names are written out
        try:
            filter_hosts(value)
        except FilterError as error:
            raise Expected(f"a pcap filter ({error.message})", error.hint) from error
    return value


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Tap = Annotated[
    str,
    BeforeValidator(_tap),
    WithJsonSchema(
        {"type": "string", "pattern": "^[a-z][a-z0-9-]*/[a-z][a-z0-9-]*$", "examples": ["mn/hotel"]}
    ),
]
PcapFilter = Annotated[str, BeforeValidator(_pcap_filter)]
Taps = Annotated[
    list[Tap],
    BeforeValidator(_one_or_more),
    WithJsonSchema({"type": ["string", "array"], "items": {"type": "string"}, "examples": ["mn/hotel"]}),
]
Names = Annotated[
    list[Name],
    BeforeValidator(_one_or_more),
    WithJsonSchema({"type": ["string", "array"], "items": {"type": "string"}}),
]

Changes = Annotated[
    list[str],
    BeforeValidator(_one_or_more),
    WithJsonSchema({"type": ["string", "array"], "items": {"type": "string"}}),
]


class Short(Part):
    """A part that may be written as the value of its main key: `move: airport` is `move: {to: airport}`."""

    SHORT: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _spell_out(cls, data: Any) -> Any:
        return data if isinstance(data, dict) else {cls.SHORT: data}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> Any:
        """Editors accept both ways of writing."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        short = schema["properties"][cls.SHORT]
        spelled = dict(schema)
        schema.clear()
        schema.update({"description": spelled.pop("description", ""), "anyOf": [short, spelled]})
        return schema


class Count(Part):
    """How many: at least one of the keys says it."""

    exactly: int | None = Field(default=None, ge=0, description="This many, no more and no fewer")
    at_least: int | None = Field(default=None, ge=1, alias="at-least", description="This many or more")
    at_most: int | None = Field(default=None, ge=0, alias="at-most", description="This many or fewer")
    none: Literal[True] | None = Field(default=None, description="`true`: not a single one")

    @model_validator(mode="wrap")
    @classmethod
    def _counts(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        count = handler(data)
        given = [one for one in (count.exactly, count.at_least, count.at_most, count.none) if one is not None]
        range_given = count.at_least is not None and count.at_most is not None
        if len(given) != 1 and not (len(given) == 2 and range_given):
            raise Expected("one of exactly, at-least, at-most and none", "for example at-least: 1")
        return count

    def allows(self, number: int) -> bool:
        """Whether a number is what is expected."""
        return self.decides(number, number) is True

    def decides(self, least: int, most: float) -> bool | None:
        """Whether a number between these two is what is expected; None where that depends on which it is."""
        exactly = 0 if self.none else self.exactly
        lowest = (self.at_least or 0) if exactly is None else exactly
        highest = (inf if self.at_most is None else self.at_most) if exactly is None else exactly
        if most < lowest or highest < least:
            return False
        return True if lowest <= least and most <= highest else None

    @property
    def wanted(self) -> str:
        """The expectation in words: `at least 2`."""
        if self.none or self.exactly == 0:
            return "none"
        if self.exactly is not None:
            return f"exactly {self.exactly}"
        bounds = (("at least", self.at_least), ("at most", self.at_most))
        return " and ".join(f"{word} {number}" for word, number in bounds if number is not None)


class Packets(Count):
    """Packets that a pcap filter matches in the captures of one or more taps.

    With `contains` only those count whose bytes hold the text in clear. `none: true` is only decided by a
    capture that is known to have been running during the whole run.
    """

    at: Taps = Field(min_length=1, description="Where they are captured: NODE/NETWORK, one or a list")
    filter: PcapFilter = Field(
        default="ip", min_length=1, description="Which packets: a pcap filter as tcpdump takes it"
    )
    contains: str | None = Field(default=None, min_length=1, description="A text found in the packet's bytes")


class Clear(Count):
    """Packets of the probe or session that carry its payload readable by anybody at the tap."""

    at: Taps = Field(min_length=1, description="Where they are captured: NODE/NETWORK, one or a list")


class Ike(Count):
    """IKE exchanges, told from the requests captured at the taps; retransmissions count once."""

    at: Taps = Field(min_length=1, description="Where they are captured: NODE/NETWORK, one or a list")
    exchange: IkeExchange = Field(description="The exchange type of RFC 7296")


class EspSas(Count):
    """ESP security associations seen in use at the taps: different pairs of destination and SPI.

    An association is one-way, so a tunnel with traffic both ways shows two.
    """

    at: Taps = Field(min_length=1, description="Where they are captured: NODE/NETWORK, one or a list")


class Binding(Part):
    """What a home agent has in its binding list for the mobile node (RFC 5944 §1.6)."""

    agent: Name | None = Field(default=None, description="The home agent (default: the mobile node's own)")
    present: bool = Field(default=True, description="Whether there is a binding")
    care_of: Prefix | None = Field(
        default=None, alias="care-of", description="The prefix that its care-of address is in"
    )


class Visitor(Part):
    """What a foreign agent has in its visitor list for the mobile node (RFC 5944 §1.6)."""

    agent: Name = Field(description="The foreign agent")
    present: bool = Field(default=True, description="Whether it is there")


class Counter(Count):
    """By how much a counter of a Mobile IP daemon grew during the run.

    The daemon has to tell it: one of a single reason or code, such as denied-78, it tells from the first on.
    """

    node: Name = Field(description="The node whose daemon counts")
    name: str = Field(
        min_length=1,
        description="The counter's name, as the daemon's state has it, such as requests-received",
    )


class MobileNodeState(Short):
    """Where the mobile node's Mobile IP daemon says it is."""

    SHORT = "state"
    state: Literal["registered", "home", "not-registered"] = Field(
        description="Away with a binding, at home and deregistered, or without either"
    )
    attachment: Literal["co-located", "foreign-agent"] | None = Field(
        default=None, description="How it is registered"
    )
    node: Name | None = Field(default=None, description="The mobile node (default: the topology's first)")


class Heard(Short):
    """Whether the mobile node's daemon heard an advertisement of this foreign agent during the run."""

    SHORT = "agent"
    agent: Name = Field(description="The foreign agent")
    present: bool = Field(default=True, description="Whether it was heard")


class Event(Count):
    """Events that a node wrote to its log during the run."""

    node: Name = Field(description="The node")
    name: str = Field(min_length=1, description="The event's name, such as registered or reply-relayed")
    source: str | None = Field(default=None, description="The service it comes from (default: any)")
    having: dict[str, str | int | bool] = Field(
        default_factory=dict, description="Fields the event must have with these values"
    )


class Daemons(Part):
    """Services that one node's supervisor keeps running: one machine that holds all of them."""

    node: Name = Field(description="The node")
    running: Names = Field(min_length=1, description="The services that must be up, such as charon")


class Perimeter(Part):
    """What the outside finds of the VPN gateways, all of the topology's: who answers IKE, and their SAs.

    A gateway is asked with an IKE_SA_INIT request to its address on the link `outside`, one that it declines.
    Silence counts where the request was captured on the `outside` of a gateway or firewall and no answer was.
    At least one of `gateways` and `associations` says what is expected.
    """

    from_: Name = Field(alias="from", description="The node outside that asks")
    gateways: Count | None = Field(default=None, description="How many of the VPN gateways answer")
    associations: Count | None = Field(
        default=None, description="How many IKE SAs they hold established, all of them together"
    )

    @model_validator(mode="wrap")
    @classmethod
    def _says_something(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        made = handler(data)
        if made.gateways is None and made.associations is None:
            raise Expected("gateways, associations or both", "for example gateways: {exactly: 1}")
        return made


class Refused(Part):
    """The topology of the run is refused by the topology check when it is loaded with these changes."""

    set: Changes = Field(min_length=1, description="The changes, one or a list, as `--set` takes them")
    because: str = Field(min_length=1, description="A text in the message that refuses it")


class Accepted(Part):
    """The topology of the run passes the topology check when it is loaded with these changes."""

    set: Changes = Field(min_length=1, description="The changes, one or a list, as `--set` takes them")


class ProbeResult(Part):
    """What the sequence-numbered probe went through, both ways, between its start and now.

    An outage runs from the last packet that came back before a gap to the first one after it.
    """

    lost: Count | None = Field(default=None, description="How many packets did not come back")
    outage: Duration | None = Field(default=None, description="No single outage was longer than this")
    silent: Duration | None = Field(default=None, description="There was an outage at least this long")


class SessionState(Short):
    """Whether the TCP session lives: data written now comes back within the bound (`within`, default 8s)."""

    SHORT = "state"
    state: Literal["alive", "broken"] = Field(description="Whether data comes back")


class Path(Part):
    """A way from a node to another."""

    from_: Name = Field(alias="from", description="The node that asks")
    to: Name = Field(description="The node that answers")
    source: str | None = Field(
        default=None, description="The sender's address: `home` for its home address, or one of its networks"
    )


class Reachable(Path):
    """Echo requests from a node to another are answered."""


class Unreachable(Path):
    """No echo request from a node to another is answered."""


class Hops(Path):
    """The routers that a packet from a node to another passes, told by their answers to growing TTLs."""

    through: Names = Field(default_factory=list, description="Nodes that must be on the way")
    not_through: Names = Field(
        default_factory=list, alias="not-through", description="Nodes that must not be on the way"
    )


class Expectation(Part):
    """Exactly one thing to be seen, and how long it may take to show (`within`)."""

    packets: Packets | None = Field(default=None, description="Packets captured at taps")
    clear: Clear | None = Field(default=None, description="Payload readable at taps")
    ike: Ike | None = Field(default=None, description="IKE exchanges captured at taps")
    esp_sas: EspSas | None = Field(default=None, alias="esp-sas", description="ESP security associations")
    binding: Binding | None = Field(default=None, description="The home agent's binding list")
    visitor: Visitor | None = Field(default=None, description="The foreign agent's visitor list")
    counter: Counter | None = Field(default=None, description="A daemon's counter")
    mobile_node: MobileNodeState | None = Field(
        default=None, alias="mobile-node", description="The mobile node's own view"
    )
    heard: Heard | None = Field(default=None, description="Agent advertisements that the mobile node heard")
    event: Event | None = Field(default=None, description="Events of a node")
    daemons: Daemons | None = Field(default=None, description="Services that run on one node")
    perimeter: Perimeter | None = Field(default=None, description="The VPN gateways, seen from outside")
    refused: Refused | None = Field(default=None, description="The topology, changed, is refused")
    accepted: Accepted | None = Field(default=None, description="The topology, changed, is accepted")
    probe: ProbeResult | None = Field(default=None, description="The running probe")
    session: SessionState | None = Field(default=None, description="The running TCP session")
    reachable: Reachable | None = Field(default=None, description="Echo requests are answered")
    unreachable: Unreachable | None = Field(default=None, description="Echo requests are not answered")
    hops: Hops | None = Field(default=None, description="Routers on the way")
    within: Duration | None = Field(
        default=None,
        description="How long to wait for it before it counts as not seen (default: it has to hold now)",
    )

    @model_validator(mode="wrap")
    @classmethod
    def _one(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        made = handler(data)
        if len(list(made.given())) != 1:
            raise Expected(
                "exactly one expectation, and beside it only `within`", "begin each with a `-` of its own"
            )
        return made

    def given(self) -> Iterator[tuple[str, Part]]:
        """The keys that were written, with their parts."""
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, Part):
                yield field.alias or name, value

    @property
    def word(self) -> str:
        """The word of the vocabulary."""
        return next(self.given())[0]

    @property
    def part(self) -> Part:
        """What is expected."""
        return next(self.given())[1]

    @property
    def taps(self) -> list[str]:
        """The taps it needs captures of."""
        part = self.part
        return list(part.at) if isinstance(part, Packets | Clear | Ike | EspSas) else []
