"""Reads a YAML document into plain data with the place of every key and value; validates it against a model.

Anchors, aliases and merge keys work; duplicate keys, tags and recursive aliases are errors.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path as FilePath
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, RootModel, ValidationError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from testbed.document.marks import Mark, Marks, Path
from testbed.document.syntax import TAG, parse
from testbed.document.values import Expected
from testbed.errors import Source, TestbedError, TopologyError, did_you_mean, raise_errors

MAX_VALUES = 100_000
"""More values than any topology has: what a document may grow to once its aliases are written out."""

_MAPPING_HINT = "write lines of KEY: VALUE"
_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True, eq=False, slots=True)
class Document:
    """A file as plain data with the place of every key and value, to be read only: the same text under the
    same name is the same document.
    """

    data: Mapping[str, Any]
    marks: Marks


def load_document(file: FilePath, shown: str, known: Collection[str] = ()) -> Document:
    """Read a file whose root is a mapping; `shown` is what errors call it. Top-level `x-…` keys are left out.

    Raises `TopologyError` for the first syntax error, or every duplicate key and the like at once. Errors
    quote nothing of a file that is no mapping with one of the `known` keys at least (none: any mapping):
    it was named by mistake, or by somebody who wants to see what may not be seen.
    """
    try:
        text = file.read_bytes().decode()
    except UnicodeDecodeError as error:
        source = _after(error.object[: error.start].decode(), shown)
        raise TopologyError("the file is not UTF-8 text", hint="save it as UTF-8", source=source) from error
    except OSError as error:
        raise TopologyError(f"cannot read it: {error.strerror}", source=Source(shown)) from error
    return _document(text, shown, tuple(known))


@lru_cache(128)  # a verification reads the same texts again and again
def _document(text: str, shown: str, known: tuple[str, ...]) -> Document:
    try:
        node = _compose(text, shown)
    except TopologyError as error:
        if known and not re.search(rf"^(?:{'|'.join(known)}|x-.*)\s*:(?:\s|$)", text, re.MULTILINE):
            raise _stranger(error.source, known) from None
        raise
    if node is None:
        message = "the file is empty: expected a mapping"
        raise TopologyError(message, hint=_MAPPING_HINT, source=Source(shown, 1, 1))
    reader = _Reader(shown)
    keys = {str(key.value) for key, _ in node.value} if isinstance(node, MappingNode) else set()
    ours = keys.intersection(known) or any(key.startswith("x-") for key in keys)
    if not isinstance(node, MappingNode) or (known and not ours):
        raise _stranger(reader.source(node), known)
    data = reader.read(node)
    raise_errors(sorted(reader.errors, key=place))
    return Document({key: value for key, value in data.items() if not key.startswith("x-")}, reader.marks)


def _stranger(source: Source | None, known: Collection[str]) -> TopologyError:
    """The error of a file that is something else; says nothing of what is in it."""
    wanted = (
        f"a mapping with some of these keys: {', '.join(known)}" if known else "a mapping of keys to values"
    )
    return TopologyError(f"expected {wanted}", hint=_MAPPING_HINT, source=source)


def parse_value(text: str, shown: str) -> Any:
    """The value of a `--set`: one YAML value, as it would stand in the file."""
    node = _compose(text, shown, whole=False)
    if node is None:
        return None
    reader = _Reader(shown)
    value = reader.read(node)
    raise_errors(
        TopologyError(error.message, hint=error.hint, source=Source(shown)) for error in reader.errors
    )
    return value


def _compose(text: str, shown: str, *, whole: bool = True) -> Node | None:
    try:
        return parse(text)
    except yaml.MarkedYAMLError as error:
        mark = (error.problem_mark or error.context_mark) if whole else None
        source = Source(shown, mark.line + 1, mark.column + 1) if mark else Source(shown)
        message, hint = _syntax(error)
        raise TopologyError(message, hint=hint, source=source) from error
    except yaml.reader.ReaderError as error:
        raise TopologyError(
            f"the character U+{ord(text[error.position]):04X} is not allowed in YAML",
            hint="leave it out",
            source=_after(text[: error.position], shown) if whole else Source(shown),
        ) from error
    except RecursionError as error:
        raise TopologyError("nested too deeply", source=Source(shown)) from error


def _after(before: str, shown: str) -> Source:
    """The place after what is before it in a file."""
    return Source(shown, before.count("\n") + 1, len(before) - before.rfind("\n"))


def _syntax(error: yaml.MarkedYAMLError) -> tuple[str, str | None]:
    """What PyYAML's error says in one line, and a hint for the commonest."""
    problem, context = (error.problem or "").removeprefix("but "), error.context or ""
    if context.startswith("expected"):
        problem = f"{context}, {problem}"
    elif context and error.context_mark and error.problem_mark:
        began = error.context_mark.line + 1
        problem += f" {context}" + (f" (line {began})" if began != error.problem_mark.line + 1 else "")
    hints = {
        r"'\t'": "indent with spaces, not with tabs",
        "undefined alias": "write its anchor, &NAME, further up",
        "another document": "one file, one document: leave out the second ---",
    }
    return f"not valid YAML: {problem}", next((hints[text] for text in hints if text in problem), None)


class _Reader:
    """Turns composed nodes into data; collects errors instead of stopping at the first."""

    def __init__(self, shown: str) -> None:
        self.marks = Marks(shown)
        self.errors: list[TopologyError] = []
        self._open: list[Node] = []
        self._values = 0

    def fail(self, node: Node, message: str, hint: str | None = None) -> None:
        self.errors.append(TopologyError(message, hint=hint, source=self.source(node)))

    def read(self, node: Node, path: Path = (), key: Node | None = None) -> Any:
        self._values += 1
        if self._values > MAX_VALUES:
            raise TopologyError(
                f"its aliases grow it beyond {MAX_VALUES} values", source=Source(self.marks.file)
            )
        raw = node.value if isinstance(node, ScalarNode) and not node.style else None
        self.marks.at[path] = Mark(self.source(node), self.source(key) if key else None, raw)
        if node in self._open:
            self.fail(node, "an alias that contains itself", "write out what it stands for")
            return None
        self._open.append(node)
        try:
            if isinstance(node, MappingNode):
                self._check_tag(node, "map")
                return self._mapping(node, path)
            if isinstance(node, SequenceNode):
                self._check_tag(node, "seq")
                return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
            return self._scalar(node)
        finally:
            self._open.pop()

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, (key_node, value_node) in self._pairs(node, path).items():
            if ":" in key and isinstance(value_node, ScalarNode) and not value_node.value:
                self.fail(key_node, f"`{key}` has no value", "YAML wants a space after the colon")
            result[key] = self.read(value_node, (*path, key), key_node)
        return result

    def _pairs(self, node: MappingNode, path: Path) -> dict[str, tuple[Node, Node]]:
        """The keys of a mapping in the order written, merged ones last; its own win over merged ones."""
        own: dict[str, tuple[Node, Node]] = {}
        merged: list[Node] = []
        for key_node, value_node in node.value:
            if key_node.tag == TAG + "merge":
                merged += value_node.value if isinstance(value_node, SequenceNode) else [value_node]
            elif not isinstance(key_node, ScalarNode):
                self.fail(key_node, "expected a plain key", "a list or a mapping cannot be a key")
            elif key_node.value in own:
                first = own[key_node.value][0].start_mark.line + 1
                where = f"{dotted(path)}: " if path else ""
                self.fail(
                    key_node, f"{where}`{key_node.value}` is written twice", f"the first is on line {first}"
                )
            else:
                own[key_node.value] = (key_node, value_node)
        for one in merged:
            if not isinstance(one, MappingNode):
                self.fail(one, "expected a mapping to merge, or a list of them")
            elif one in self._open[:-1]:
                self.fail(one, "an alias that contains itself", "write out what it stands for")
            else:
                for key, pair in self._merge(one, path).items():
                    own.setdefault(key, pair)
        return own

    def _merge(self, node: MappingNode, path: Path) -> dict[str, tuple[Node, Node]]:
        self._values += 1
        if self._values > MAX_VALUES or len(self._open) > 200:
            raise TopologyError("merge keys that contain themselves", source=self.source(node))
        self._open.append(node)
        try:
            return self._pairs(node, path)
        finally:
            self._open.pop()

    def _scalar(self, node: Node) -> Any:
        text = str(node.value)
        match node.tag.removeprefix(TAG):
            case "str" | "merge":
                return text
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int" | "float" as kind:
                try:
                    return int(text) if kind == "int" else float(text)
                except ValueError:  # an explicit !!int before something else, or thousands of digits
                    return text
        self._check_tag(node, "str")
        return text

    def _check_tag(self, node: Node, usual: str) -> None:
        if node.tag != TAG + usual:
            self.fail(node, f"the tag {node.tag.replace(TAG, '!!')} means nothing here", "leave it out")

    def source(self, node: Node) -> Source:
        """Where a node begins."""
        return Source(self.marks.file, node.start_mark.line + 1, node.start_mark.column + 1)


def dotted(path: Path) -> str:
    """A path as errors show it: `configurations[0].networks`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def describe(value: Any, raw: str | None = None) -> str:
    """What was found, in few words: the scalar as it was written, or its kind."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    text = raw if raw is not None else str(value).lower() if isinstance(value, bool) else str(value)
    if not text:
        return "empty text"
    text = text if len(text) <= 60 else text[:57] + "…"
    quoted = isinstance(value, str) and raw is None and re.fullmatch(r"true|false|null|\d+(\.\d*)?", text)
    return f"the text {text}" if quoted else text


def expected(where: Path, marks: Marks, error: Expected, value: Any) -> TopologyError:
    """The error of a value at a path that is not what was expected."""
    return TopologyError(
        f"{dotted(where)}: expected {error.expected}, got {describe(value, marks.raw(where))}",
        hint=error.hint,
        source=marks.value(where),
    )


def validate_model(model: type[_Model], data: Mapping[str, Any], marks: Marks) -> _Model:
    """Validate data against a model; every error is reported at its place in the document."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
    errors: list[TestbedError] = [_translate(model, detail, marks) for detail in details]
    raise_errors(sorted(errors, key=place))
    raise AssertionError("pydantic reported no error")  # pragma: no cover


def place(error: TestbedError) -> tuple[bool, str, int, int]:
    """Where an error stands in the order of files and lines; those of `--set` have no line and come first."""
    source = error.source or Source("")
    return source.line is not None, source.file, source.line or 0, source.column or 0


def _translate(model: type[BaseModel], detail: Any, marks: Marks) -> TopologyError:
    """One of pydantic's errors in our words."""
    kind, value = detail["type"], detail["input"]
    path: Path = tuple(detail["loc"])
    context = detail.get("ctx", {})
    if path and path[-1] == "[key]":
        path = path[:-1]
        cause = context.get("error")
        text = cause.expected if isinstance(cause, Expected) else detail["msg"]
        hint = cause.hint if isinstance(cause, Expected) else None
        return TopologyError(
            f"{dotted(path[:-1])}: expected {text}, got {path[-1] or 'empty text'}",
            hint=hint,
            source=marks.key(path),
        )
    if kind == "missing":
        where = f"{dotted(path[:-1])}: " if path[:-1] else ""
        return TopologyError(
            f"{where}`{path[-1]}` is missing", hint=_description(model, path), source=marks.key(path[:-1])
        )
    if kind == "too_long":
        wanted = f"expected at most {context['max_length']} entries, got {len(value)}"
        return TopologyError(f"{dotted(path)}: {wanted}", source=marks.key(path))
    if kind == "extra_forbidden":
        where = f"{dotted(path[:-1])}: " if path[:-1] else ""
        known = _keys(_model_at(model, path[:-1]))
        return TopologyError(
            f"{where}unknown key `{path[-1]}`",
            hint=did_you_mean(str(path[-1]), known),
            source=marks.key(path),
        )
    return expected(path, marks, _expectation(kind, context, value, detail["msg"]), value)


def _expectation(kind: str, context: dict[str, Any], value: Any, message: str) -> Expected:
    if isinstance(context.get("error"), Expected):
        cause: Expected = context["error"]
        return cause
    match kind:
        case "literal_error":
            choices = re.findall(r"'([^']*)'", context["expected"]) or [context["expected"].lower()]
            listed = ", ".join(choices[:-1]) + " or " + choices[-1] if len(choices) > 1 else choices[0]
            hint = did_you_mean(value, choices) if isinstance(value, str) else None
            return Expected(listed, hint if hint and hint.startswith("did") else None)
        case "string_type":
            return Expected("text", "put it in quotes" if isinstance(value, bool | int | float) else None)
        case "list_type":
            return Expected("a list", f"write [{value}]" if isinstance(value, str) else None)
        case "dict_type" | "model_type" | "model_attributes_type":
            return Expected("a mapping")
        case "bool_type":
            return Expected("true or false")
        case "too_short" | "string_too_short":
            return Expected("at least one entry" if kind == "too_short" else "some text")
        case "greater_than_equal":
            return Expected(f"a number of {context['ge']} or more")
        case "less_than_equal":
            return Expected(f"a number of {context['le']} or less")
        case "int_type":
            return Expected("a whole number")
    return Expected(message)


def _model_at(model: Any, path: Path) -> type[BaseModel] | None:
    """The model that describes the mapping at a path, found by the annotations."""
    for part in path:
        model = _written(model, part)
        if isinstance(model, type) and issubclass(model, BaseModel):
            fields = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
            model = fields.get(str(part))
        elif get_origin(model) in (dict, list):
            model = get_args(model)[-1]
        else:
            return None
    model = _written(model, "")
    return model if isinstance(model, type) and issubclass(model, BaseModel) else None


def _written(model: Any, part: str | int) -> Any:
    """The type that was written where a part is optional, or single or a list: `part` inside it decides."""
    if get_origin(model) is Annotated:
        return _written(get_args(model)[0], part)
    if get_origin(model) in (UnionType, Union):
        ways = [one for one in get_args(model) if one is not NoneType]
        return _written(ways[-1] if isinstance(part, int) else ways[0], part)
    root = isinstance(model, type) and issubclass(model, RootModel)
    return model.model_fields["root"].annotation if root else model


def _keys(model: type[BaseModel] | None) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _description(model: type[BaseModel], path: Path) -> str | None:
    parent = _model_at(model, path[:-1])
    for name, field in parent.model_fields.items() if parent else ():
        if (field.alias or name) == path[-1]:
            text = field.description
            return f"{path[-1]}: {text[0].lower()}{text[1:]}" if text else None
    return None
