"""JSON Schema for editors, generated from the model and the role manifests, so that it cannot drift from
them.

What only the checks can find (addresses inside subnets, names that exist, what files that include each other
lack together) is left to `testbed validate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from testbed.claim.claims import TrialUse
from testbed.document.values import ADDRESS_PATTERN, DURATION_PATTERN
from testbed.topology.expand import TopologyFile
from testbed.topology.roles import Role, Setting

_DIALECT = "https://json-schema.org/draft/2020-12/schema"

_TYPES: dict[str, dict[str, Any]] = {
    "address": {"type": "string", "pattern": f"^{ADDRESS_PATTERN}$"},
    "prefix": {"type": "string", "pattern": rf"^{ADDRESS_PATTERN}/\d{{1,2}}$"},
    "address-range": {"type": "string", "pattern": rf"^{ADDRESS_PATTERN} ?- ?{ADDRESS_PATTERN}$"},
    "duration": {"anyOf": [{"type": "string", "pattern": DURATION_PATTERN}, {"const": 0}]},
    "lifetime": {"type": "string", "pattern": DURATION_PATTERN},
    "bool": {"type": "boolean"},
    "int": {"type": "integer"},
}


def topology_schema(roles: Mapping[str, Role]) -> dict[str, Any]:
    """The schema of a topology file whose nodes may have these roles."""
    schema = TopologyFile.model_json_schema()
    use = TrialUse.model_json_schema()
    schema["$defs"] |= use.pop("$defs") | {"TrialUse": use}
    claim = schema["$defs"]["Claim"]["properties"]
    for key in ("run", "control"):
        ways = [{"$ref": f"#/$defs/{name}"} for name in ("Experiment", "TrialUse")] + [{"type": "string"}]
        several = {"type": "array", "items": {"anyOf": ways}, "minItems": 1}
        text = f"{claim[key]['description']}; in place of one the name of a trial"
        claim[key] = {"anyOf": [*ways, several], "description": text}
    for part in (schema, *(schema["$defs"][name] for name in ("Network", "Node", "Option"))):
        part.pop("required")  # the rest may stand in another file
    node = schema["$defs"]["Node"]["properties"]
    node["roles"]["items"] = {
        "anyOf": [{"const": role.name, "description": role.summary} for role in roles.values()]
    }
    declared: dict[str, list[tuple[str, Setting]]] = {}
    for role in roles.values():
        for key, setting in role.settings.items():
            declared.setdefault(key, []).append((role.name, setting))
    node["settings"] |= {
        "properties": {key: _setting(users) for key, users in sorted(declared.items())},
        "additionalProperties": False,
    }
    node["settings"].pop("propertyNames", None)
    schema["patternProperties"] = {"^x-": {"description": "Free for YAML anchors of this file"}}
    return {"$schema": _DIALECT, **schema}


def role_schema() -> dict[str, Any]:
    """The schema of a role manifest."""
    return {"$schema": _DIALECT, **Role.model_json_schema(by_alias=True)}


def _setting(users: list[tuple[str, Setting]]) -> dict[str, Any]:
    setting = users[0][1]
    schema = dict(_TYPES.get(setting.type, {"type": "string"}))
    if setting.choices:
        schema["enum"] = setting.choices
    several = (
        [{"type": "array", "items": schema, "minItems": 1}] if any(one.several for _, one in users) else []
    )
    schema = {"anyOf": [schema, *several, {"type": "null"}]}
    schema["description"] = "; ".join(f"{role}: {one.help}" for role, one in users if one.help)
    return schema
