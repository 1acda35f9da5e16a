"""Jinja as the testbed uses it: undefined names are errors, every error has its template and line.

Templates are trusted: Jinja evaluates expressions that reach any Python object, so a folder given with
`--templates` can do what its user can. Every template can read `testbed.agreed` by the name `agreed`.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, TemplateError, TemplateNotFound
from jinja2.bccache import Bucket, BytecodeCache
from jinja2.exceptions import TemplateSyntaxError

from testbed import agreed
from testbed.data import data_dir
from testbed.errors import Source, TopologyError
from testbed.render import wireguard


def _seconds(milliseconds: float) -> int | float:
    seconds = milliseconds / 1000
    return int(seconds) if seconds.is_integer() else seconds


class _Compiled(BytecodeCache):
    """The built-in templates, compiled once for every folder of a user's that goes before them."""

    def __init__(self) -> None:
        self._code: dict[tuple[str, str], bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if code := self._code.get((bucket.key, bucket.checksum)):
            bucket.bytecode_from_string(code)

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._code[bucket.key, bucket.checksum] = bucket.bytecode_to_string()


_COMPILED = _Compiled()


@lru_cache(maxsize=8)
def _environment(folders: tuple[Path, ...]) -> Environment:
    """Kept with the templates it has compiled: to compile those of a lab takes longer than to render it."""
    environment = Environment(
        loader=FileSystemLoader(folders),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # configuration files, not HTML
        bytecode_cache=_COMPILED,
    )
    environment.filters["seconds"] = _seconds
    environment.filters["wireguard_private"] = wireguard.private_key
    environment.filters["wireguard_public"] = wireguard.public_key
    environment.globals["agreed"] = agreed
    return environment


@lru_cache(256)
def _compiled(environment: Environment, text: str) -> Template:
    return environment.from_string(text)


class Templates:
    """The template folders: a user's own before the built-in one."""

    def __init__(self, own: Path | None = None) -> None:
        self._folders = (*([own] if own else []), data_dir("templates"))
        self._environment = _environment(self._folders)

    def render(self, template: str, context: Mapping[str, Any]) -> str:
        """Render one template; raises `TopologyError` with the template's file and line."""
        try:
            return self._environment.get_template(template).render(context)
        except TemplateNotFound as error:
            folders = " and ".join(str(folder) for folder in self._folders)
            raise TopologyError(f"template {error.name} not found", hint=f"searched {folders}") from error
        except TemplateSyntaxError as error:
            where = Source(error.filename or template, error.lineno)
            raise TopologyError(f"template syntax: {error.message}", source=where) from error
        except (TemplateError, LookupError, TypeError, ValueError, AttributeError, StopIteration) as error:
            node = getattr(context.get("node"), "name", "?")
            message = f"rendering for node {node}: {error or type(error).__name__}"
            raise TopologyError(message, source=self._place(error, template)) from error

    def evaluate(self, text: str, context: Mapping[str, Any]) -> str:
        """Render a value of a manifest; raises `TopologyError`."""
        try:
            return _compiled(self._environment, text).render(context)
        except (TemplateError, LookupError, TypeError, ValueError, AttributeError) as error:
            node = getattr(context.get("node"), "name", "?")
            raise TopologyError(f"rendering {text!r} for node {node}: {error}") from error

    def _place(self, error: BaseException, template: str) -> Source:
        """The innermost template line of a traceback (Jinja maps compiled code back to its source)."""
        folders = tuple(str(folder) for folder in self._folders)
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if frame.filename.startswith(folders):
                return Source(frame.filename, frame.lineno)
        return Source(template)
