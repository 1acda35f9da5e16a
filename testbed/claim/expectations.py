"""What a claim can expect to be seen: the nouns of the vocabulary. Each class is one word, its docstring the
meaning.

An expectation is decided by what was observed, never by configuration: packets captured at a tap, the state a
daemon reports, traffic that arrives or does not. `testbed vocabulary` prints this file's docstrings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import BeforeValidator, Field, ModelWrapValidatorHandler, WithJsonSchema, model_validator

from testbed.claim.seen import GIVING_UP, PATIENCE, SETTLING, Count, Counted, Seen
from testbed.document.part import Part
from testbed.document.values import Duration, Expected, Name, Prefix
from testbed.packet.filters import FilterError, filter_hosts

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

LOGGED: Final = 1000.0
"""Milliseconds that an event may take through the engine's log."""


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


class After(Part):
    """A moment of a run: so long after the last packet that a pcap filter matches at one or more taps."""

    at: Taps = Field(min_length=1, description="Where that packet is captured: NODE/NETWORK, one or a list")
    filter: PcapFilter = Field(
        min_length=1, description="Which packet: a pcap filter; the last that it matches"
    )
    by: Duration = Field(default=0.0, description="How long after it (default: at once)")


class Wire(Counted):
    """Packets captured at taps, all of them or those of the last part of a run."""

    at: Taps = Field(min_length=1, description="Where they are captured: NODE/NETWORK, one or a list")
    after: After | None = Field(
        default=None,
        description="Only later packets count: `{at: TAP, filter: FILTER, by: TIME}` is so long after the "
        "last packet that the filter matches there",
    )


class Packets(Wire):
    """Packets that a pcap filter matches in the captures of one or more taps.

    With `contains` only those count whose bytes hold the text in clear. `none: true` is only decided by a
    capture that is known to have been running during the whole run, and with `after` only if something was
    captured afterwards.
    """

    filter: PcapFilter = Field(
        default="ip", min_length=1, description="Which packets: a pcap filter as tcpdump takes it"
    )
    contains: str | None = Field(default=None, min_length=1, description="A text found in the packet's bytes")


class Clear(Wire):
    """Packets of the probe or session that carry its payload readable by anybody at the tap."""

    TOO_MUCH: ClassVar[float | None] = None


class Ike(Counted):
    """IKE exchanges, told from the requests captured at the taps; retransmissions count once."""

    at: Taps = Field(min_length=1, description="Where they are captured: NODE/NETWORK, one or a list")
    exchange: IkeExchange = Field(description="The exchange type of RFC 7296")

    def bound(self, too_much: bool) -> float | None:
        """As of all that is counted; and an association that charon gave up on is negotiated anew."""
        return super().bound(too_much) or (GIVING_UP if too_much else None)


class EspSas(Counted):
    """ESP security associations seen in use at the taps: different pairs of destination and SPI.

    An association is one-way, so a tunnel with traffic both ways shows two.
    """

    at: Taps = Field(min_length=1, description="Where they are captured: NODE/NETWORK, one or a list")


class Binding(Seen):
    """What a home agent has in its binding list for the mobile node (RFC 5944 §1.6)."""

    TOO_LITTLE: ClassVar[float | None] = SETTLING
    TOO_MUCH: ClassVar[float | None] = SETTLING  # it stays until the deregistration gets through

    agent: Name | None = Field(default=None, description="The home agent (default: the mobile node's own)")
    present: bool = Field(default=True, description="Whether there is a binding")
    care_of: Prefix | None = Field(
        default=None, alias="care-of", description="The prefix that its care-of address is in"
    )


class Visitor(Seen):
    """What a foreign agent has in its visitor list for the mobile node (RFC 5944 §1.6)."""

    TOO_LITTLE: ClassVar[float | None] = SETTLING

    agent: Name = Field(description="The foreign agent")
    present: bool = Field(default=True, description="Whether it is there")


class Counter(Counted):
    """By how much a counter of a Mobile IP daemon grew during the run.

    The daemon has to tell it: one of a single reason or code, such as denied-78, it tells from the first on.
    """

    node: Name = Field(description="The node whose daemon counts")
    name: str = Field(
        min_length=1,
        description="The counter's name, as the daemon's state has it, such as requests-received",
    )


class MobileNodeState(Short, Seen):
    """Where the mobile node's Mobile IP daemon says it is."""

    TOO_LITTLE: ClassVar[float | None] = SETTLING

    SHORT = "state"
    state: Literal["registered", "home", "not-registered"] = Field(
        description="Away with a binding, at home and deregistered, or without either"
    )
    attachment: Literal["co-located", "foreign-agent"] | None = Field(
        default=None, description="How it is registered"
    )
    node: Name | None = Field(default=None, description="The mobile node (default: the topology's first)")


class Heard(Short, Seen):
    """Whether the mobile node's daemon heard an advertisement of this foreign agent during the run."""

    ON_ITS_WAY: ClassVar[float] = LOGGED

    SHORT = "agent"
    agent: Name = Field(description="The foreign agent")
    present: bool = Field(default=True, description="Whether it was heard")


class Event(Counted):
    """Events that a node wrote to its log during the run."""

    ON_ITS_WAY: ClassVar[float] = LOGGED

    node: Name = Field(description="The node")
    name: str = Field(min_length=1, description="The event's name, such as registered or reply-relayed")
    source: str | None = Field(default=None, description="The service it comes from (default: any)")
    having: dict[str, str | int | bool] = Field(
        default_factory=dict, description="Fields the event must have with these values"
    )


class Daemons(Seen):
    """Services that one node's supervisor keeps running: one machine that holds all of them."""

    TOO_LITTLE: ClassVar[float | None] = None

    node: Name = Field(description="The node")
    running: Names = Field(min_length=1, description="The services that must be up, such as charon")


class Perimeter(Seen):
    """What the outside finds of the VPN gateways, all of the topology's: who answers IKE, and their SAs.

    A gateway is asked with an IKE_SA_INIT request to its address on the link `outside`, one that it declines.
    Silence counts where the request was captured on the `outside` of a gateway or firewall and no answer was.
    At least one of `gateways` and `associations` says what is expected.
    """

    from_: Name = Field(alias="from", description="The node outside that asks")
    gateways: Count | None = Field(default=None, description="How many of the VPN gateways answer")
    associations: Count | None = Field(
        default=None,
        description="With how many peers they hold an IKE SA established, all of them together; a peer that"
        " negotiates again counts once",
    )

    @model_validator(mode="wrap")
    @classmethod
    def _says_something(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        made = handler(data)
        if made.gateways is None and made.associations is None:
            raise Expected("gateways, associations or both", "for example gateways: {exactly: 1}")
        return made


class Refused(Seen):
    """The topology of the run is refused by the topology check when it is loaded with these changes."""

    TOO_LITTLE: ClassVar[float | None] = None

    set: Changes = Field(min_length=1, description="The changes, one or a list, as `--set` takes them")
    because: str = Field(min_length=1, description="A text in the message that refuses it")


class Accepted(Seen):
    """The topology of the run passes the topology check when it is loaded with these changes."""

    TOO_LITTLE: ClassVar[float | None] = None

    set: Changes = Field(min_length=1, description="The changes, one or a list, as `--set` takes them")


class ProbeResult(Seen):
    """What the sequence-numbered probe went through, both ways, between its start and now.

    An outage runs from the last packet that came back before a gap to the first one after it.
    """

    lost: Count | None = Field(default=None, description="How many packets did not come back")
    outage: Duration | None = Field(default=None, description="No single outage was longer than this")
    silent: Duration | None = Field(default=None, description="There was an outage at least this long")

    def bound(self, too_much: bool) -> float | None:
        """The time it is measured against is a bound too. Slowness makes outages longer, never shorter."""
        if too_much:
            return None
        return min(one for one in (PATIENCE, self.outage) if one is not None)


class SessionState(Short, Seen):
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


class Reachable(Path, Seen):
    """Echo requests from a node to another are answered."""


class Unreachable(Path, Seen):
    """No echo request from a node to another is answered."""


class Hops(Path, Seen):
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

    def given(self) -> Iterator[tuple[str, Seen]]:
        """The keys that were written, with their parts."""
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, Seen):
                yield field.alias or name, value

    @property
    def word(self) -> str:
        """The word of the vocabulary."""
        return next(self.given())[0]

    @property
    def part(self) -> Seen:
        """What is expected."""
        return next(self.given())[1]

    def bound(self, too_much: bool) -> float | None:
        """The shortest bound in ms that a slow machine may exceed, so that it does not hold; None: never."""
        bound = self.part.bound(too_much)
        return min(bound, self.within) if bound is not None and self.within else bound

    @property
    def taps(self) -> list[str]:
        """The taps it needs captures of."""
        part = self.part
        taps = list(part.at) if isinstance(part, Wire | Ike | EspSas) else []
        return taps + (part.after.at if isinstance(part, Wire) and part.after else [])
