"""What the outside finds at the border: the VPN gateways that answer, and the associations they hold."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, NotRequired, Self

from pydantic import Field, ModelWrapValidatorHandler, model_validator
from typing_extensions import TypedDict

from testbed.claim.names import Fail, Known, NodeName
from testbed.claim.seen import Count, Seen
from testbed.claim.sight import Decision, Facts, Looker, Sight
from testbed.document.functions import Function
from testbed.document.marks import Path
from testbed.document.values import Expected
from testbed.errors import StepError
from testbed.packet.taps import Matched


class _Knock(TypedDict):
    spi: Annotated[str, Field(pattern="^([0-9a-f]{2}){8}$")]
    answer: str | None


_Sa = TypedDict("_Sa", {"remote-id": str | None, "state": str | None})


class _Gateway(TypedDict):
    ike: NotRequired[_Knock]
    sas: NotRequired[list[_Sa]]


def _gateways(facts: Facts) -> dict[str, str]:
    """Every VPN gateway, and its address outside."""
    return {name: str(facts.outside_address(name)) for name in facts.with_role(Function.VPN_GATEWAY)}


class Perimeter(Seen):
    """What the outside finds of all VPN gateways of the topology: which of them answer IKE, and their SAs.

    Each gateway gets an IKE_SA_INIT request at its address on the link `outside`, which it declines. Silence
    counts where the request was captured on the `outside` of a gateway or firewall and no answer was, and
    where the captures there ran and lost nothing.
    At least one of `gateways` and `associations` says what is expected.
    """

    word = "perimeter"
    title = "The VPN gateways, seen from outside"
    order = 120
    SEEN: ClassVar[Any] = dict[str, _Gateway]

    from_: NodeName = Field(alias="from", description="The node outside that asks")
    gateways: Count | None = Field(default=None, description="How many of the VPN gateways answer")
    associations: Count | None = Field(
        default=None,
        description="The number of peers with an established IKE SA, of all gateways together; a peer that"
        " negotiates again counts once",
    )

    @model_validator(mode="wrap")
    @classmethod
    def _says_something(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        made = handler(data)
        if made.gateways is None and made.associations is None:
            raise Expected("gateways, associations or both", "for example gateways: {exactly: 1}")
        return made

    def check(self, where: Path, known: Known, fail: Fail) -> None:
        """There is a VPN gateway, and the node that asks is outside."""
        if not known.with_role(Function.VPN_GATEWAY):
            fail(where, "`perimeter` needs a node with the role vpn-gateway")
        node = known.nodes.get(self.from_)
        if node is None:
            return  # an unknown node is reported as everywhere
        domains = {known.networks[link].domain for link in node.links if link in known.networks}
        if "internet" not in domains or "intranet" in domains:
            fail(
                (*where, "from"),
                f"{self.from_} is not outside",
                "a node of the Internet, and not of the Intranet",
            )

    def phrase(self) -> str:
        """What is expected, as a line."""
        wanted = [f"gateways that answer IKE: {self.gateways.wanted}"] if self.gateways else []
        wanted += [f"peers with an IKE SA: {self.associations.wanted}"] if self.associations else []
        return f"perimeter from {self.from_}: {', '.join(wanted)}"

    def taps(self, facts: Facts) -> list[str]:
        """Requests and answers are captured at the border."""
        return [*facts.border()] if self.gateways else []

    def look(self, lab: Looker) -> Any:
        """Ask every gateway for IKE from outside, and its charon for its associations."""
        gateways = _gateways(lab.facts)
        knocked = _knock(lab, self.from_, list(gateways.values())) if self.gateways else {}
        return {
            name: {
                **({"ike": knocked[address]} if self.gateways else {}),
                **({"sas": _associations(lab, name)} if self.associations else {}),
            }
            for name, address in gateways.items()
        }

    def judge(self, sight: Sight) -> Decision:
        """Count the gateways that answered, and the peers that have an SA."""
        exposed = untold = peers = 0
        told = []
        gateways = _gateways(sight.facts)
        for name, address in gateways.items():
            words = [f"{name} ({address})"]
            seen = sight.seen.get(name, {})
            if (self.gateways and "ike" not in seen) or (self.associations and "sas" not in seen):
                raise StepError(f"what was seen of {name} is not recorded")
            if self.gateways:
                answer = seen["ike"]["answer"]
                problem = None if answer else _unseen(sight, seen["ike"]["spi"])
                exposed += answer is not None
                untold += problem is not None
                words.append(f"answers {answer}" if answer else "does not answer")
                words += [problem] if problem else []
            if self.associations:
                # Of a peer that negotiated again the old SA stays for some seconds.
                sas = seen["sas"]
                number = len({sa["remote-id"] for sa in sas if sa["state"] == "ESTABLISHED"})
                peers += number
                words.append(f"peers with an IKE SA: {number}")
            told.append(", ".join(words))
        parts = [
            self.gateways.decides(exposed, exposed + untold) if self.gateways else True,
            self.associations.allows(peers) if self.associations else True,
        ]
        totals = [f"{exposed} of {len(gateways)} gateways answer"] if self.gateways else []
        totals += [f"{peers} peers with an IKE SA"] if self.associations else []
        held = False if False in parts else None if None in parts else True
        too_much = (self.gateways is not None and exposed > self.gateways.highest) or (
            self.associations is not None and peers > self.associations.highest
        )
        return Decision(held, f"{', '.join(totals)}: {'; '.join(told)}", too_much)


def _knock(lab: Looker, node: str, addresses: list[str]) -> dict[str, dict[str, str | None]]:
    done = lab.execute(node, ["python3", "-m", "testbed.node.knock", *addresses])
    if done.code:
        raise StepError(f"{node} cannot ask for IKE: {done.complaint}")
    answers: dict[str, dict[str, str | None]] = json.loads(done.text)
    return answers


def _associations(lab: Looker, gateway: str) -> list[dict[str, Any]]:
    """The IKE SAs of a gateway, established or not."""
    command = next((one.ike_sas for one in lab.facts.daemons(gateway) if one.ike_sas), None)
    if command is None:
        raise StepError(f"no role of {gateway} says how its IKE SAs are read (ike-sas)")
    done = lab.execute(gateway, ["sh", "-c", command])
    if done.code:
        raise StepError(f"{gateway} does not report its IKE SAs: {done.complaint}")
    sas: list[dict[str, Any]] = json.loads(done.text)
    return sas


def _unseen(sight: Sight, spi: str) -> str | None:
    """Why the silence of a gateway does not say that it is closed; None where it does.

    The request has to have come as far as the border, and no answer may have been sent that was lost. Only
    captures that ran until then and lost nothing say that there was none.
    """
    taps = sight.facts.border()
    requests, answers = (
        sight.wires.match_all(taps, f"udp {direction} port 500") for direction in ("dst", "src")
    )

    def seen(matches: list[Matched]) -> bool:
        return any(bytes.fromhex(spi) in packet for match in matches for packet in match.packets)

    if seen(answers):
        return "but an answer was sent"
    if not seen(requests):
        return f"but the request was not seen at {' nor '.join(taps)}"
    dead = [match.tap for match in answers if not match.alive]
    if dead:
        return f"but the capture at {', '.join(dead)} had ended"
    lossy = [match.tap for match in answers if match.dropped]
    return f"but the capture at {', '.join(lossy)} lost packets" if lossy else None
