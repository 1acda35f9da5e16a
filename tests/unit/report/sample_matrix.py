"""The evidence of a matrix over five small scenarios that say what the document's say."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import plain_yaml

# id: stack, attachment, shows, problem or drawback
CLAIMS: dict[str, dict[str, tuple[str | None, ...]]] = {
    "scenario-2.1": {
        "2.1-inside": ("mip-only", None, "works", None),
        "2.1-guards": ("mip-only", "co-located", "fails", "home-agent-unreachable"),
        "2.1-fa": ("mip-in-ipsec", "foreign-agent", "fails", "fa-registration-impossible"),
        "2.1-moves": ("mip-in-ipsec", "co-located", "costs", "renegotiation-per-move"),
    },
    "scenario-2.2": {
        "2.2-fa": ("mip-in-ipsec", "foreign-agent", "fails", "fa-registration-impossible"),
        "2.2-moves": ("mip-in-ipsec", "co-located", "costs", "renegotiation-per-move"),
        "2.2-mobile": ("ipsec-in-mip", None, "works", None),
        "2.2-routing": ("ipsec-in-mip", None, "costs", "routing-change"),
        "2.2-away": ("ipsec-in-mip", None, None, None),
    },
    "scenario-2.3": {
        "2.3-works": ("ipsec-in-mip", None, "works", None),
        "2.3-box": (None, None, "costs", "single-vendor"),
    },
    "scenario-2.4": {
        "2.4-works": ("ipsec-in-mip", None, "works", None),
        "2.4-inside": ("ipsec-in-mip", None, "fails", "home-agent-unreachable"),
    },
    "scenario-2.5": {
        "2.5-works": ("ipsec-in-mip", None, "works", None),
        "2.5-moves": ("mip-in-ipsec", "co-located", "costs", "renegotiation-per-move"),
        "2.5-perimeter": (None, None, "costs", "perimeter-grows"),
    },
}
DEPLOYED = {
    "scenario-2.1": ["mip-only", "mip-in-ipsec"],
    "scenario-2.2": ["mip-in-ipsec", "ipsec-in-mip"],
}
PROBLEMS = {"scenario-2.1": "any", "scenario-2.3": "none", "scenario-2.5": "none"}
DRAWBACKS = ("routing-change", "single-vendor", "perimeter-grows")
RUN = {"steps": [{"move": "home"}], "expect": [{"mobile-node": "home"}]}


def spoken(stack: str | None, attachment: str | None) -> dict[str, str]:
    return {k: v for k, v in (("stack", stack), ("attachment", attachment)) if v}


def shown(shows: str | None, name: str | None) -> dict[str, str]:
    key = "drawback" if name in DRAWBACKS else "problem"
    return {k: v for k, v in (("shows", shows), (key, name)) if v}


def topology(scenario: str) -> dict[str, Any]:
    stacks = dict.fromkeys(one[0] for one in CLAIMS[scenario].values() if one[0])
    claims = {
        name: {
            "says": f"what {name} says",
            "source": "§2",
            **({"configuration": spoken(one[0], one[1])} if one[0] else {}),
            **shown(one[2], one[3]),
            "run": RUN,
            "control": RUN,
        }
        for name, one in CLAIMS[scenario].items()
    }
    return {
        "name": scenario,
        "title": f"The title of {scenario}",
        "networks": {"home": {"subnet": "10.0.1.0/24", "domain": "intranet"}},
        "nodes": {"mn": {"roles": ["mobile-node"], "attaches": ["home"]}},
        "configurations": [
            {"stack": stack, "attachment": attachment, "networks": ["home"]}
            for stack in stacks
            for attachment in ("co-located", "foreign-agent")
        ],
        "deployed": DEPLOYED.get(scenario, ["ipsec-in-mip"]),
        "selection": {
            "practical": f"words about {scenario}",
            "source": "RFC 4093",
            "problems": PROBLEMS.get(scenario, "scenario-2.1"),
        },
        "claims": claims,
    }


def claim(scenario: str, name: str, verdict: str) -> dict[str, Any]:
    stack, attachment, shows, effect = CLAIMS[scenario][name]
    run = {"verdict": "held", "lab": "verify-1", "seconds": 1.5, "notes": [], "error": None}
    return {
        "id": name,
        "scenario": scenario,
        "verdict": verdict,
        "source": "§2",
        "says": f"what {name} says",
        "configuration": spoken(stack, attachment),
        "shows": None,
        "problem": None,
        "drawback": None,
        **shown(shows, effect),
        "run": run,
        "control": run,
        "evidence": [],
        "reason": "" if verdict == "reproduced" else f"{name}: 100% | <wrong>,\nsaid: no",
    }


def verdicts(
    changed: Mapping[str, str] | None = None, left_out: Collection[str] = (), without: Collection[str] = ()
) -> dict[str, Any]:
    """verdicts.json: everything reproduced but what is `changed`; claims left out, scenarios not tried."""
    claims = [
        claim(scenario, name, (changed or {}).get(name, "reproduced"))
        for scenario, named in CLAIMS.items()
        for name in named
        if name not in left_out and scenario not in without
    ]
    return {"schema_version": 1, "backends": {}, "claims": claims}


def write_matrix(folder: Path, document: dict[str, Any]) -> Path:
    (folder / "topologies").mkdir(parents=True)
    for scenario in CLAIMS:
        file = folder / "topologies" / f"{scenario}.yaml"
        file.write_text(plain_yaml.dump(topology(scenario)))
    (folder / "verdicts.json").write_text(json.dumps(document))
    return folder
