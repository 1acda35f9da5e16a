from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import plain_yaml
import pytest

from testbed.data import data_dir
from testbed.topology.expand import Shorthand, TopologyFile
from testbed.topology.model import Configuration, Network, Node, Option
from testbed.topology.roles import Role, builtin_roles, role_files
from testbed.topology.schema import role_schema, topology_schema


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return topology_schema(builtin_roles())


@pytest.fixture(scope="module")
def validator(schema: dict[str, Any]) -> Any:
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_schema_has_every_key_of_the_model(schema: dict[str, Any]) -> None:
    json.dumps(schema)
    assert set(schema["properties"]) == set(TopologyFile.model_fields) > set(Shorthand.model_fields)
    for model in (Network, Node, Option, Configuration):
        part = schema["$defs"][model.__name__]
        assert set(part["properties"]) == set(model.model_fields)
        assert part["additionalProperties"] is False
        assert all(field.get("description") for field in part["properties"].values())
    settings = schema["$defs"]["Node"]["properties"]["settings"]
    assert "home-address" in settings["properties"]
    roles = schema["$defs"]["Node"]["properties"]["roles"]["items"]["anyOf"]
    assert {"const", "description"} == set(roles[0])
    assert {role["const"] for role in roles} == set(role_files())


def test_the_schema_of_roles_uses_the_keys_that_are_written() -> None:
    assert set(role_schema()["properties"]) == {
        field.alias or name for name, field in Role.model_fields.items()
    }


@pytest.mark.parametrize(
    "file", sorted(data_dir("topologies").rglob("*.yaml")), ids=lambda file: f"{file.parent.name}/{file.stem}"
)
def test_builtin_topologies_and_fragments_fit_the_schema(file: Path, validator: Any) -> None:
    validator.validate(plain_yaml.load(file.read_text()))


def test_the_schema_knows_the_ways_to_write_a_run(validator: Any) -> None:
    whole = {"steps": [{"move": "home"}], "expect": [{"mobile-node": "home"}]}
    claim = {"says": "it works", "source": "§1", "control": "walk"}
    for run in ("walk", {"trial": "walk", "expect": whole["expect"]}, whole, ["walk", whole]):
        validator.validate({"claims": {"x": claim | {"run": run}}})
    for run in ({"expect": whole["expect"]}, {"trail": "walk"}, 3, [], [["walk"]]):
        with pytest.raises(jsonschema.ValidationError):
            validator.validate({"claims": {"x": claim | {"run": run}}})


def test_builtin_roles_fit_the_schema() -> None:
    validator = jsonschema.Draft202012Validator(role_schema())
    for file in role_files().values():
        validator.validate(plain_yaml.load(file.read_text()))
