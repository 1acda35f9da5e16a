"""Roles: what a node can do, each declared once in `templates/roles/<role>.yaml`.

A manifest names the settings a node has to give and what each means, the files rendered for it, the services
that run, how each is known to be ready and what observers may read of it, and how the role is drawn. A user's
own template folder is searched before the built-in one, so a role can be added, or another vendor's put in
the place of a built-in one, without touching the code: by `acts-as` it is taken wherever that one is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ModelWrapValidatorHandler, WithJsonSchema, model_validator

from testbed.data import data_dir
from testbed.document.functions import MEANINGS, Meaning, SettingType
from testbed.document.read import Document, load_document, validate_model
from testbed.document.values import (
    Expected,
    Name,
    parse_address,
    parse_duration,
    parse_prefix,
    parse_range,
)
from testbed.errors import TestbedError, TopologyError, did_you_mean, raise_errors
from testbed.topology.model import Part

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


def _meaning(value: Any) -> Meaning:
    if isinstance(value, str) and value in [*Meaning]:
        return Meaning(value)
    raise Expected(f"one of {', '.join(Meaning)}", did_you_mean(str(value), Meaning))


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
    several: bool = Field(
        default=False, description="Whether it may be a list; templates get a tuple in any case"
    )
    role: Name | None = Field(default=None, description="For a node: the role it must have, or act as")
    means: Annotated[Meaning, BeforeValidator(_meaning)] | None = Field(
        default=None,
        description="What the value is to checks, routes, observers and drawings: "
        + "; ".join(f"{name}, {words} ({kind})" for name, (kind, words) in MEANINGS.items()),
    )
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
        if setting.means is not None and setting.type != MEANINGS[setting.means][0]:
            kind, words = MEANINGS[setting.means]
            raise Expected(f"the type {kind} with `means: {setting.means}`, {words}")
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
        """The typed value of what a topology says, of several a tuple of them; raises `Expected`."""
        if self.several:
            if value == []:
                raise Expected("at least one value")
            return tuple(map(self._parse, value if isinstance(value, list) else [value]))
        return self._parse(value)

    def _parse(self, value: Any) -> Any:
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
    control: Name | None = Field(
        default=None,
        description="The control socket that it serves, /run/testbed/NAME.sock, named after the built-in "
        "daemon whose requests it understands",
    )
    state: list[str] = Field(
        default_factory=list,
        description="What observers may read in its answer to `state`: backend, counters, bindings …",
    )
    flush: list[str] = Field(
        default_factory=list, description="The lists in its state that the request `flush` empties"
    )
    takes: list[str] = Field(
        default_factory=list,
        description="What no other service of a node may take: tunnel devices, a routing table, a protocol …",
    )
    ike_sas: str | None = Field(
        default=None,
        alias="ike-sas",
        min_length=1,
        description="A command that prints its IKE SAs: a JSON list of {remote-id, state}",
    )

    @model_validator(mode="after")
    def _is_asked(self) -> Service:
        if self.control is None and (self.state or self.flush):
            raise Expected("`state` and `flush` with `control` only: it is asked over its control socket")
        return self


class Backend(Part):
    """What does something on the node, its kernel or a program in its place; reports name it."""

    by: str = Field(min_length=1, description="What does it, in words")
    when: str | None = Field(
        default=None, description="A command that exits 0 where it does; always if absent"
    )


class Drawn(Part):
    """How a role is named in drawings, among the other roles of its node."""

    label: str | None = Field(default=None, description="Its words; by default its name without hyphens")
    last: bool = Field(default=False, description="Named after the others, as what many nodes are")
    hidden: bool = Field(default=False, description="Not named")


class Role(Part):
    """The manifest of a role."""

    name: Name = Field(description="The role's name; the manifest's file is called the same")
    summary: str = Field(description="One line for readers")
    acts_as: list[Name] = Field(
        default_factory=list,
        alias="acts-as",
        description="Roles in whose place it stands: it is taken wherever they are asked for, and has every "
        "setting that they require, by what it means",
    )
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
    routing: Name | None = Field(
        default=None,
        description="`static` for a router of its neighbours, else the protocol by which it learns the "
        "Intranet's prefixes from other routers",
    )
    border: bool = Field(
        default=False,
        description="Whether what the outside sends to the Intranet arrives at its link that means `outside`",
    )
    drawing: Drawn = Field(default_factory=Drawn, description="How drawings name it")
    backends: dict[str, Backend | list[Backend]] = Field(
        default_factory=dict,
        description="What carries packets, for reports: of several the first whose `when` holds",
    )
    settings: dict[Name, Setting] = Field(
        default_factory=dict, description="What a node has to say for the role"
    )
    sysctls: dict[str, Sysctl] = Field(
        default_factory=dict, description="Kernel settings below net., the values as templates"
    )
    files: list[FileSpec] = Field(default_factory=list, description="Files rendered for the node")
    services: dict[Name, Service] = Field(default_factory=dict, description="Programs that run on the node")
    capabilities: list[Capability] = Field(
        default_factory=list,
        description="Linux capabilities that its programs need beyond those that every node has",
    )
    image: str | None = Field(default=None, description="A container image of the role's own")

    @property
    def carriers(self) -> dict[str, list[Backend]]:
        """What may carry packets, by what it does, in the order in which it is looked for."""
        return {what: one if isinstance(one, list) else [one] for what, one in self.backends.items()}


def role_files(templates: Path | None = None) -> dict[str, Path]:
    """Every role there is and its manifest; those below `templates` override the built-in ones."""
    folders = [data_dir("templates"), *([templates] if templates else [])]
    return {file.stem: file for folder in folders for file in sorted((folder / "roles").glob("*.yaml"))}


def manifests(roles: Mapping[str, Role], files: Mapping[str, Path]) -> dict[str, Path]:
    """The manifests among `files` that are needed to read topologies with these roles: theirs, and those of
    the roles that they act as.
    """
    found: dict[str, Path] = {}
    left = list(roles)
    while left:
        name = left.pop()
        if name in files and name not in found:
            found[name] = files[name]
            left += (roles.get(name) or load_role(files[name])).acts_as
    return found


def load_role(file: Path, files: Mapping[str, Path] | None = None) -> Role:
    """Read one manifest; raises `TopologyError` (or `ErrorGroup`) that points into it.

    `files` are the manifests of all roles, for what it says about others.
    """
    known = [field.alias or name for name, field in Role.model_fields.items()]
    document = load_document(file, str(file), known)
    marks, role = document.marks, _validated(document)
    if role.name != file.stem:
        raise TopologyError(
            f"name: expected {file.stem}, after the file, got {role.name}", source=marks.value(("name",))
        )
    for index, name in enumerate(role.acts_as):
        where = marks.value(("acts-as", index))
        if files is not None and name not in files:
            raise TopologyError(
                f"acts-as[{index}]: unknown role {name}", hint=did_you_mean(name, files), source=where
            )
        for missing in _unmet(role, load_role(files[name])) if files is not None else ():
            kind, words = MEANINGS[missing]
            raise TopologyError(
                f"acts-as[{index}]: a {name} has a setting for {words}, and {role.name} has none",
                hint=f"settings: {{NAME: {{type: {kind}, means: {missing}}}}}",
                source=where,
            )
    return role


@lru_cache(128)
def _validated(document: Document) -> Role:
    return validate_model(Role, document.data, document.marks)


def _unmet(role: Role, other: Role) -> list[Meaning]:
    """The meanings that every node with the other role gives, and nodes with this role cannot."""
    has = {setting.means for setting in role.settings.values()}
    return [
        one.means for one in other.settings.values() if one.required and one.means and one.means not in has
    ]


def load_roles(names: Iterable[str], files: Mapping[str, Path]) -> dict[str, Role]:
    """Read the manifests of some roles (those that have one) and report the errors of all of them at once."""
    roles: dict[str, Role] = {}
    errors: list[TestbedError] = []
    for name in dict.fromkeys(names):
        if name not in files:
            continue
        try:
            roles[name] = load_role(files[name], files)
        except TestbedError as error:
            errors.append(error)
    raise_errors(errors)
    return roles


@cache
def builtin_roles() -> Mapping[str, Role]:
    """The roles that come with the product: what is known where a user's template folder is not at hand."""
    files = role_files()
    return load_roles(files, files)
