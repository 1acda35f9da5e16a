"""Roles: what a node can do, each declared once in `templates/roles/<role>.yaml`.

A manifest names the settings a node has to give, the files rendered for it, the services that run and how
each is known to be ready. A user's own template folder is searched before the built-in one, so a role can
be added, or another vendor's put in the place of a built-in one, without touching the code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ModelWrapValidatorHandler, WithJsonSchema, model_validator

from testbed.data import data_dir
from testbed.document.read import load_document, validate_model
from testbed.document.values import (
    Expected,
    Name,
    parse_address,
    parse_duration,
    parse_prefix,
    parse_range,
)
from testbed.errors import TestbedError, TopologyError, raise_errors
from testbed.topology.model import Part

SettingType = Literal[
    "network", "node", "address", "prefix", "address-range", "duration", "lifetime", "bool", "int", "string",
    "enum",
]  # fmt: skip


Capability = Literal[
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "SETFCAP", "SETPCAP",
    "SYS_CHROOT",
]  # fmt: skip
"""What a container engine gives by default; a node's role has to ask for it."""


def _parse_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    hint = {"yes": "write true", "on": "write true", "no": "write false", "off": "write false"}.get(word)
    if word in ("true", "false"):
        hint = "write it without quotes"
    raise Expected("true or false", hint)


def _parse_int(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    zeros = isinstance(value, str) and re.fullmatch(r"0+[0-9]{1,20}", value)
    raise Expected("a whole number such as 100", f"without leading zeros: {int(value)}" if zeros else None)


def _parse_lifetime(value: Any) -> float:
    """What a registration's 16 bits of seconds hold; 0 would deregister (RFC 5944 §3.3)."""
    lifetime = parse_duration(value)
    if lifetime % 1000 == 0 and 1 <= lifetime / 1000 <= 65535:
        return lifetime
    raise Expected("a lifetime of whole seconds, 1s to 65535s", "65535s is for ever")


def _parse_reference(kind: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    raise Expected(f"the name of a {kind}")


def _parse_string(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise Expected("text", "put it in quotes")


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "network": partial(_parse_reference, "network"),
    "node": partial(_parse_reference, "node"),
    "address": parse_address,
    "prefix": parse_prefix,
    "address-range": parse_range,
    "duration": parse_duration,
    "lifetime": _parse_lifetime,
    "bool": _parse_bool,
    "int": _parse_int,
    "string": _parse_string,
}


class Setting(Part):
    """One thing that a role needs to know about a node.

    Its type decides what a template gets: network and node a name, address an IPv4Address, prefix an
    IPv4Network, address-range an AddressRange, duration and lifetime milliseconds (float), the others what
    they are.
    """

    type: SettingType = Field(description="What kind of value it is")
    default: Any = Field(default=None, description="The value where a node gives none")
    optional: bool = Field(default=False, description="May be absent although there is no default")
    choices: list[str] | None = Field(default=None, min_length=1, description="The values of an enum")
    at_least: str | None = Field(default=None, alias="at-least", description="For a duration: the shortest")
    role: Name | None = Field(default=None, description="For a node: the role it must have")
    help: str = Field(default="", description="One sentence for readers and editors")

    @model_validator(mode="wrap")
    @classmethod
    def _fits(cls, data: Any, handler: ModelWrapValidatorHandler[Setting]) -> Setting:
        setting = handler(data)
        if (setting.type == "enum") != (setting.choices is not None):
            raise Expected("`choices` with the type enum, and with no other")
        if setting.role and setting.type != "node":
            raise Expected("`role` with the type node only")
        if setting.at_least is not None and setting.type != "duration":
            raise Expected("`at-least` with the type duration only")
        if setting.default is None:
            return setting
        try:
            return setting.model_copy(update={"default": setting.parse(setting.default)})
        except Expected as error:
            raise Expected(f"a default that fits: {error.expected}", error.hint) from error

    @property
    def required(self) -> bool:
        """Whether a node with the role has to give it."""
        return self.default is None and not self.optional

    def parse(self, value: Any) -> Any:
        """The typed value of what a topology says; raises `Expected`."""
        if self.type == "enum":
            if value in (self.choices or []):
                return value
            raise Expected("one of " + ", ".join(self.choices or []))
        parsed = _PARSERS[self.type](value)
        if self.at_least is not None and parsed < parse_duration(self.at_least):
            raise Expected(f"{self.at_least} or longer")
        return parsed


def _mode(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"0o?[0-7]{3}", value):
        return int(value.replace("o", ""), 8)
    raise Expected("file permissions in octal such as 0o600")


def _path(value: Any) -> str:
    if isinstance(value, str) and value.startswith("/") and ".." not in value.split("/"):
        return value
    raise Expected("an absolute path without ..")


def _sysctl(value: Any) -> str:
    if isinstance(value, int | str) and not isinstance(value, bool):
        return str(value)
    raise Expected("a whole number or text")


Sysctl = Annotated[str, BeforeValidator(_sysctl), WithJsonSchema({"type": ["integer", "string"]})]


class FileSpec(Part):
    """A file that a role renders into its node; a template that comes out empty makes none."""

    template: str = Field(description="The template, below the template folder")
    path: Annotated[str, BeforeValidator(_path)] = Field(description="Where the file goes in the node")
    mode: Annotated[
        int, BeforeValidator(_mode), WithJsonSchema({"type": "string", "pattern": "^0o?[0-7]{3}$"})
    ] = Field(default=0o644, description="Permissions in octal")
    live: bool = Field(
        default=False, description="Whether a running node takes a change over, so that it needs no new one"
    )


class Service(Part):
    """A program the node's supervisor keeps running."""

    run: str = Field(min_length=1, description="The command line; stays in the foreground")
    ready: str | None = Field(
        default=None, description="`self`: says so on stdout; else a command repeated until it exits 0"
    )


class Role(Part):
    """The manifest of a role."""

    name: Name = Field(description="The role's name; the manifest's file is called the same")
    summary: str = Field(description="One line for readers")
    needs: list[Name] = Field(default_factory=list, description="Roles that the same node must have too")
    topology_needs: list[Name] = Field(
        default_factory=list,
        alias="topology-needs",
        description="Roles that some node of the topology must have",
    )
    topology_options: list[Name] = Field(
        default_factory=list,
        alias="topology-options",
        description="Options that the topology must have",
    )
    forwards: bool = Field(
        default=False, description="Whether the node forwards packets (net.ipv4.ip_forward)"
    )
    settings: dict[Name, Setting] = Field(
        default_factory=dict, description="What a node has to say for the role"
    )
    sysctls: dict[str, Sysctl] = Field(default_factory=dict, description="Kernel settings below net.")
    files: list[FileSpec] = Field(default_factory=list, description="Files rendered for the node")
    services: dict[Name, Service] = Field(default_factory=dict, description="Programs that run on the node")
    capabilities: list[Capability] = Field(
        default_factory=list,
        description="Linux capabilities that its programs need beyond those that every node has",
    )
    image: str | None = Field(default=None, description="A container image of the role's own")


def role_files(templates: Path | None = None) -> dict[str, Path]:
    """Every role there is and its manifest; those below `templates` override the built-in ones."""
    folders = [data_dir("templates"), *([templates] if templates else [])]
    return {file.stem: file for folder in folders for file in sorted((folder / "roles").glob("*.yaml"))}


def load_role(file: Path) -> Role:
    """Read one manifest; raises `TopologyError` (or `ErrorGroup`) that points into it."""
    known = [field.alias or name for name, field in Role.model_fields.items()]
    data, marks = load_document(file, str(file), known)
    role = validate_model(Role, data, marks)
    if role.name != file.stem:
        raise TopologyError(
            f"name: expected {file.stem}, after the file, got {role.name}", source=marks.value(("name",))
        )
    return role


def load_roles(files: Sequence[Path]) -> dict[str, Role]:
    """Read several manifests and report the errors of all of them at once."""
    roles: dict[str, Role] = {}
    errors: list[TestbedError] = []
    for file in files:
        try:
            role = load_role(file)
        except TestbedError as error:
            errors.append(error)
        else:
            roles[role.name] = role
    raise_errors(errors)
    return roles
