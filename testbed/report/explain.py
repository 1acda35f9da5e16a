"""One claim as a story for somebody who knows RFC 4093 and nothing of this project, as plain data.

`testbed.report.story` writes it as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from testbed.claim.claims import Claim, Experiment
from testbed.claim.expect import Expectation
from testbed.claim.vocabulary import words
from testbed.document.functions import Function, Meaning
from testbed.document.marks import Path as Place
from testbed.document.remarks import remark
from testbed.errors import UsageError, did_you_mean
from testbed.evidence.folder import CAPTURES, run_path
from testbed.evidence.verdicts import KINDS, Finding, Kind, run_name
from testbed.evidence.verdicts import Claim as Decided
from testbed.report.decides import differences, opposites
from testbed.report.drawing import TITLES
from testbed.report.evidence import Evidence
from testbed.report.way import DATA, REQUEST, ways
from testbed.report.words import role_words
from testbed.topology.loaded import LoadedTopology
from testbed.topology.overrides import target

Labs = Mapping[tuple[Kind, int], LoadedTopology]
"""The topology of each run, by kind and number, with the run's options chosen."""

STACKS: Final = {
    "mip-only": "MIPv4 alone; the mobile node uses no IPsec",
    "mip-in-ipsec": "MIPv4 inside IPsec. The mobile node negotiates IKE with the VPN gateway first. The "
    "address that the gateway lends it inside the ESP tunnel is its care-of address. It registers from "
    "there, and ESP is the outermost header",
    "ipsec-in-mip": "IPsec inside MIPv4. The mobile node registers first. It negotiates IKE from its home "
    "address, through the MIPv4 tunnel, whose header is the outermost",
    "mip-in-ipsec-in-mip": "MIPv4 inside IPsec inside MIPv4 (RFC 5265). The mobile node registers with its "
    "home agent outside, and negotiates IKE from its home address there. The address that the gateway lends "
    "it is the care-of address that it registers with its home agent inside. Inside the Intranet the latter "
    "alone is used",
}
ATTACHMENTS: Final = {
    "co-located": "co-located. The network has DHCP; the care-of address is the mobile node's own, or the "
    "one that a VPN gateway lends it",
    Function.FOREIGN_AGENT: "foreign agent. The network has a foreign agent and no DHCP",
    None: "of either kind, co-located or of a foreign agent",
}
SHOWS: Final = {
    "works": "Where the claim is reproduced, this configuration works.",
    "costs": "Where the claim is reproduced, this configuration works at a cost.",
    "fails": "Where the claim is reproduced, this configuration fails.",
}


def explain(
    loaded: LoadedTopology, name: str, labs: Labs, evidence: Evidence | None = None
) -> dict[str, Any]:
    """Everything about a claim of a topology, with what was found where there is evidence.

    Raises `UsageError` where the evidence does not have the claim.
    """
    claim = loaded.topology.claims[name]
    decided = _decided(evidence, loaded.name, name) if evidence else None
    runs = {kind: [run for _, run in claim.experiments(kind)] for kind in KINDS}
    nearest = [
        _nearest(runs["run"], control, labs, number) for number, control in enumerate(runs["control"], 1)
    ]
    plain = _Filters(loaded)
    told = {
        kind: [
            _Run(loaded, ("claims", name, *path), run, labs[kind, number], plain, kind, number).story(
                decided, evidence
            )
            for number, (path, run) in enumerate(claim.experiments(kind), 1)
        ]
        for kind in KINDS
    }
    return {
        "claim": name,
        "says": claim.says,
        "source": claim.source,
        "topology": loaded.name,
        "title": loaded.topology.title,
        "configuration": _configuration(claim),
        "shows": claim.shows,
        "problem": claim.problem,
        "drawback": claim.drawback,
        "run": told["run"],
        "control": told["control"],
        "remark": remark(loaded.marks.key(("claims", name, "control"))),
        "nearest": [number for number, _ in nearest],
        "differences": [changed for _, changed in nearest],
        "opposites": [
            {"run": plain(one.phrase()), "control": plain(other.phrase())}
            for one, other in opposites(runs["run"], runs["control"])
        ],
        "conditions": list(_conditions(runs)),
        "where": _where(runs, labs, told),
        "words": _words(runs),
        "filters": plain.used,
        **({"verdict": _verdict(decided)} if decided else {}),
    }


def _nearest(
    runs: Sequence[Experiment], control: Experiment, labs: Labs, number: int
) -> tuple[int, list[str]]:
    """The run from which a control differs least, by its number, with the differences."""
    found = [
        (like, differences(run, labs["run", like], control, labs["control", number]))
        for like, run in enumerate(runs, 1)
    ]
    return min(found, key=lambda one: (len(one[1]), abs(one[0] - number)))


def _configuration(claim: Claim) -> dict[str, str | None] | None:
    spoken = claim.configuration
    if spoken is None:
        return None
    return {
        "stack": spoken.stack,
        "stack_text": STACKS[spoken.stack],
        "attachment": spoken.attachment,
        "attachment_text": ATTACHMENTS[spoken.attachment],
        "shows_text": SHOWS.get(claim.shows or ""),
    }


class _Filters:
    """Writes the names of filters in the place of what they stand for, and remembers which."""

    def __init__(self, loaded: LoadedTopology) -> None:
        self._loaded = loaded
        self._known = sorted(loaded.filters.items(), key=lambda one: -len(one[1]))
        self.used: list[dict[str, str]] = []

    def __call__(self, text: str) -> str:
        for name, filter_ in self._known:
            short = text.replace(f"'{filter_}'", f"‘{name}’").replace(f"({filter_})", f"‘{name}’")
            if short != text:
                text = short
                self._use(name, filter_)
        return text

    def _use(self, name: str, filter_: str) -> None:
        if all(one["name"] != name for one in self.used):
            said = remark(self._loaded.marks.key(("filters", name)))
            self.used.append({"name": name, "filter": filter_, "remark": said})


@dataclass(frozen=True)
class _Run:
    """One run or control of a claim."""

    loaded: LoadedTopology
    path: Place
    experiment: Experiment
    lab: LoadedTopology
    plain: _Filters
    kind: Kind
    number: int

    def story(self, decided: Decided | None, evidence: Evidence | None) -> dict[str, Any]:
        name = run_name(self.kind, self.number)
        findings = [one for one in decided.evidence if one.run == name] if decided else []
        told = {
            "topology": self.lab.name,
            "title": self.lab.topology.title,
            "options": dict(self.experiment.options),
            "meanings": dict(self._meanings()),
            "sets": list(self.experiment.sets),
            "ways": [
                {
                    "line": " ".join(way.shown),
                    "parts": way.shown,
                    "ends": way.ends,
                    "note": way.note,
                    "of": REQUEST if way.requests else DATA,
                    "nodes": list(way.nodes),
                }
                for way in ways(self.lab, self.experiment)
            ],
            "steps": [
                self._part(
                    ("steps", index), step.phrase(), step.part.expectation, findings, f"step {step.word}"
                )
                for index, step in enumerate(self.experiment.steps)
            ],
            "expect": [
                self._part(("expect", index), one.phrase(), one, findings, f"expectation {one.word}")
                for index, one in enumerate(self.experiment.expect)
            ],
        }
        if decided is None or evidence is None:
            return told
        facts = decided.run if self.kind == "run" else decided.control
        folder = evidence.folder / run_path(decided.id, self.kind, self.number) / CAPTURES
        captures = [str(file.relative_to(evidence.folder)) for file in sorted(folder.glob("*.pcap*"))]
        return told | {
            "verdict": facts.verdict if facts else "undecided",
            "error": (facts.error if facts else None) or "",
            "captures": captures,
        }

    def _meanings(self) -> Iterator[tuple[str, str]]:
        """What the options and settings are that the run asks for."""
        for name in self.experiment.options:
            yield name, self.lab.topology.options[name].help
        for section, node, *keys in map(target, self.experiment.sets):
            for role in self.lab.node_roles(node) if section == "nodes" else ():
                if keys and keys[0] in role.settings:
                    yield keys[0], role.settings[keys[0]].help

    def _part(
        self, inside: Place, text: str, expectation: Expectation | None, findings: list[Finding], word: str
    ) -> dict[str, Any]:
        """A step or an expectation in words, with its author's remark and what was found of it."""
        said = remark(self.loaded.marks.value((*self.path, *inside))).rstrip(",:;")
        told: dict[str, Any] = {"word": word, "text": self.plain(text), "remark": said}
        wanted = expectation.phrase() if expectation else None
        found = next((one for one in findings if one.expectation == wanted), None)
        if found:
            findings.remove(found)
            told["found"] = {"held": found.held, "observed": found.observed, "excuse": found.excuse or ""}
        return told


def _conditions(runs: Mapping[Kind, Sequence[Experiment]]) -> Iterator[str]:
    """Steps that make a run inconclusive where they do not get through."""
    steps = (step for several in runs.values() for run in several for step in run.steps)
    yield from dict.fromkeys(condition for step in steps if (condition := step.part.condition()))


# Who and where


def _where(
    runs: Mapping[Kind, Sequence[Experiment]], labs: Labs, told: Mapping[Kind, Sequence[Mapping[str, Any]]]
) -> list[dict[str, Any]]:
    """The nodes and networks that a reader meets, topology by topology."""
    found: dict[str, tuple[list[LoadedTopology], set[str]]] = {}
    for kind, several in told.items():
        for number, run in enumerate(several, 1):
            lab = labs[kind, number]
            texts = [one["text"] for key in ("steps", "expect") for one in run[key]]
            names = {word for text in texts for word in re.findall(r"[a-z][a-z0-9-]*", text)}
            names |= {node for way in run["ways"] for node in way["nodes"]}
            alike, met = found.setdefault(lab.name, ([], set()))
            alike.append(lab)
            met.update(names)
    return [
        {
            "topology": name,
            "title": alike[0].topology.title,
            "nodes": [_node(lab, one) for one, lab in _once(alike, "nodes") if one in names],
            "networks": [_network(lab, one) for one, lab in _once(alike, "networks") if one in names],
        }
        for name, (alike, names) in found.items()
    ]


def _once(labs: Sequence[LoadedTopology], section: str) -> list[tuple[str, LoadedTopology]]:
    """Every node or network of labs of one topology, which differ in options, with a lab that has it."""
    return list({one: lab for lab in reversed(labs) for one in getattr(lab, section)}.items())


def _node(lab: LoadedTopology, name: str) -> dict[str, str]:
    node = lab.node(name)
    home = lab.home_address(name)
    place = f"home address {home}" if home else f"on {_listed(list(node.links))}"
    return {"node": name, "text": f"{role_words(node.roles, lab.roles)}, {place}"}


def _network(lab: LoadedTopology, name: str) -> dict[str, str]:
    network = lab.topology.networks[name]
    facts = [TITLES[network.domain], *(["wireless"] if network.medium == "wireless" else [])]
    linked = lab.topology.linked(name)
    facts += [f"foreign agent {one}" for one in linked if name in lab.visited(one)]
    facts += [f"DHCP by {one}" for one in linked if _lends(lab, one, name)]
    homes = [
        one for one in lab.with_role(Function.HOME_AGENT) if lab.meant(one, Meaning.HOME_NETWORK) == name
    ]
    facts += [f"home network, home agent {one}" for one in homes]
    return {"network": name, "text": f"{network.subnet}, {', '.join(facts)}"}


def _lends(lab: LoadedTopology, node: str, network: str) -> bool:
    pool = lab.meant(node, Meaning.DHCP_POOL)
    return pool is not None and pool.first in lab.topology.networks[network].subnet


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _words(runs: Mapping[Kind, Sequence[Experiment]]) -> dict[str, str]:
    """What the words of the claim mean: the first paragraph of each."""
    used: set[tuple[str, str]] = set()
    for run in (one for several in runs.values() for one in several):
        used |= {("step", step.word) for step in run.steps}
        used |= {("expectation", one.word) for _, one in run.expectations()}
    return {
        f"{one.kind} {one.word}": " ".join(one.text.partition("\n\n")[0].split())
        for one in words()
        if (one.kind, one.word) in used
    }


# What was found


def _decided(evidence: Evidence, topology: str, name: str) -> Decided:
    """The claim of this topology, which of several solutions makes it. Raises `UsageError`."""
    known = {one.id: one for one in evidence.verdicts.claims} if evidence.verdicts else {}
    own = [one for one in known.values() if (one.scenario, one.name) == (topology, name)]
    if not own and name not in known:
        hint = did_you_mean(name, known) or "testbed verify NAME --evidence DIR writes verdicts"
        raise UsageError(f"{evidence.folder} has no verdict on {name}", hint=hint)
    return own[0] if own else known[name]


def _verdict(decided: Decided) -> dict[str, Any]:
    return {"verdict": decided.verdict, "reason": decided.reason or ""}
