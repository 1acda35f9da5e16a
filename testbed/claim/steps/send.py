"""Packets that the testbed makes."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Final, Literal

from pydantic import Field

from testbed.claim import background
from testbed.claim.action import Action, Actor
from testbed.claim.ends import address_of, ends
from testbed.claim.names import End, Fail, Known, NodeName, PcapFilter, Tap
from testbed.claim.sight import Facts
from testbed.document.marks import Path
from testbed.document.part import Part
from testbed.document.values import Duration, Name
from testbed.errors import StepError

ALL_SYSTEMS: Final = "224.0.0.1"
"""Where advertisements go (RFC 5944 §2.3)."""
MOBILE_NODE_FILE: Final = "/etc/mobileip/mobile-node.toml"
"""Where a mobile node has the key that it shares with its home agent."""
_OF: Final = {
    "inner": ("ipip",),
    "care-of": ("request",),
    "key": ("request", "reply"),
    "answers": ("reply",),
    "trusted": ("reply",),
    "home": ("advertisement",),
    "notify": ("ike",),
}
"""Keys that belong to some protocols alone."""


class Heard(Part):
    """A packet that was captured in this run."""

    at: Tap = Field(description="Where it was captured: NODE/NETWORK")
    filter: PcapFilter = Field(min_length=1, description="Which packet: a pcap filter; the last that matches")


class Send(Part, Action):
    """Packets that the testbed makes up: what a real peer would send, or what an attacker forges.

    They come from the sender's own address, or claim to come from another (`as`). What `udp` and `ipip` carry
    to an application is seen by `listen` and `received`. A `request` or `reply` is about the first mobile
    node's home address; `key: stolen` proves it with the key that this node shares with its home agent,
    `key: random` with another. The home agent is where a request goes and where a reply claims to come from.
    A `reply` `answers` a captured request, or nothing where none was captured. With `every` they go on until
    the end of the run.
    """

    word = "send"
    title = "Send made-up packets"
    order = 90

    from_: NodeName = Field(alias="from", description="The node that sends")
    to: End | None = Field(
        default=None, description="Where they go: NODE, or its address on a network, NODE/NETWORK"
    )
    as_: End | None = Field(
        default=None,
        alias="as",
        description="The address that they claim to come from: NODE or NODE/NETWORK (default: the sender's)",
    )
    through: Name | None = Field(
        default=None, description="The network that they leave by (default: as routes have it)"
    )
    protocol: Literal["udp", "esp", "ipip", "request", "reply", "advertisement", "ike"] = Field(
        description="UDP to port 9; ESP with a random SPI; IP-in-IP with such a UDP packet inside; a "
        "registration request or reply; an agent advertisement; an IKE_SA_INIT request that nobody accepts"
    )
    inner: NodeName | None = Field(
        default=None,
        description="ipip: the node the inner packet is for; it comes from the mobile node, and to that one "
        "from its correspondent",
    )
    care_of: End | None = Field(
        default=None, alias="care-of", description="request: the care-of address (default: its source)"
    )
    key: Literal["random", "stolen"] = Field(
        default="random", description="request and reply: the key of their authenticator"
    )
    answers: Heard | None = Field(default=None, description="reply: the captured request that it answers")
    trusted: bool = Field(
        default=False,
        description="reply: with the Trusted Networks Configured Extension (RFC 5265 §3.2.3)",
    )
    home: bool = Field(
        default=False,
        description="advertisement: of a home agent, not a foreign agent; with `as: NODE/NETWORK` and "
        "`every` the sender answers ARP requests for all addresses of that network",
    )
    notify: int | None = Field(
        default=None, ge=0, le=65535, description="ike: the type of a notification in it (RFC 7296 §3.10)"
    )
    count: int = Field(default=3, ge=1, le=100, description="How many")
    every: Duration | None = Field(
        default=None, description="On and on, so long apart, while the run goes on (default: `count`)"
    )

    def check(self, where: Path, known: Known, fail: Fail) -> None:
        """Report keys that its protocol does not take, and what it lacks."""
        given = self.model_dump(by_alias=True, exclude_defaults=True)
        for key, protocols in _OF.items():
            if key in given and self.protocol not in protocols:
                fail((*where, key), f"`{key}` is of {' and '.join(protocols)}, not of {self.protocol}")
        if self.protocol == "advertisement":
            if self.through is None:
                fail(where, "an advertisement needs `through`", "through: the network that it is made on")
            elif self.to is not None:
                fail((*where, "to"), "an advertisement goes to all nodes of a link")
        elif self.to is None:
            fail(where, f"{self.protocol} needs `to`", "to: NODE or NODE/NETWORK")
        if self.protocol == "ipip" and self.inner is None:
            fail(where, "ipip needs `inner`", "inner: the node that the inner packet is for")
        if self.from_ in known.nodes and self.through not in (None, *known.nodes[self.from_].networks):
            fail((*where, "through"), f"{self.from_} is not on {self.through}")

    def taps(self, facts: Facts) -> list[str]:
        """Where the request is heard that is answered."""
        return [self.answers.at] if self.answers else []

    def act(self, lab: Actor) -> str:
        """Send them with `testbed.node.inject`."""
        source = address_of(lab, self.as_) if self.as_ else self._own(lab)
        target = address_of(lab, self.to) if self.to else ALL_SYSTEMS
        command = ["python3", "-m", "testbed.node.inject", self.protocol, source, target]
        command += [word for pair in self._options(lab) for word in pair]
        claimed = f"{source} (forged)" if self.as_ else source
        if self.every is not None:
            command += ["--every", f"{self.every:g}"]
            background.start(lab, self.from_, f"send {self.protocol}", command)
            said = f"{self.protocol} from {claimed} to {target} every {self.every:g} ms"
        else:
            done = lab.execute(self.from_, [*command, "--count", str(self.count)])
            if done.code != 0:
                raise StepError(f"{self.from_}: {done.complaint}")
            said = f"{self.count} {self.protocol} packets from {claimed} to {target}"
        lab.note(f"made up by {self.from_}: {said}")
        return said

    def _own(self, lab: Actor) -> str:
        links, network = lab.facts.nodes[self.from_].links, (self.to or "").partition("/")[2]
        own = links.get(self.through or network) or lab.facts.primary_address(self.from_)
        if own is None:
            raise StepError(f"{self.from_} has no address")
        return str(own)

    def _options(self, lab: Actor) -> Iterator[tuple[str, ...]]:
        facts = lab.facts
        mobile = facts.mobile_nodes[0]
        if self.through:
            yield "--device", self.through
        if self.inner:
            home, other = str(facts.home_address(mobile)), facts.primary_address(self.inner)
            between = (ends(facts).address, home) if self.inner == mobile else (home, str(other))
            yield "--inner", *between
        if self.protocol in ("request", "reply"):
            agent = self.to if self.protocol == "request" else self.as_
            yield "--home", str(facts.home_address(mobile))
            yield "--agent", address_of(lab, agent) if agent else self._own(lab)
            if self.key == "stolen":
                yield "--key", _stolen(lab, mobile)
        if self.care_of:
            yield "--care-of", address_of(lab, self.care_of)
        if self.answers and (heard := lab.captured(self.answers.at, self.answers.filter)):
            yield "--answers", heard[-1].hex()
        if self.trusted:
            yield ("--trusted",)
        if self.home:
            yield ("--as-home",)
            if self.every and self.as_ and "/" in self.as_:
                yield "--owns", str(facts.networks[self.as_.partition("/")[2]].subnet)
        if self.notify is not None:
            yield "--notify", str(self.notify)


def _stolen(lab: Actor, node: str) -> str:
    """The key that a mobile node shares with its home agent, in hexadecimal digits. Raises `StepError`."""
    done = lab.execute(node, ["cat", MOBILE_NODE_FILE])
    try:
        return bytes.fromhex(tomllib.loads(done.text)["security"]["key"]).hex()
    except (ValueError, KeyError, TypeError) as error:
        raise StepError(f"{node} has no {MOBILE_NODE_FILE} with the key that it shares") from error
