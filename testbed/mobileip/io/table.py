"""A TOML table that is read once, strictly: wrong types, missing and unknown keys are ConfigErrors."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from enum import Enum
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, TypeVar

from testbed.mobileip.io.errors import ConfigError
from testbed.mobileip.wire.reader import parsed_address

T = TypeVar("T")
E = TypeVar("E", bound=Enum)
_REQUIRED: Any = object()
_At = tuple[str | int, ...]
"""Where something is in a file: names of tables and keys, numbers in arrays of tables."""


class _File:
    """A file and its text, in which an error looks for its line."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._lines = text.splitlines(keepends=True)

    def error(self, at: _At, message: str) -> ConfigError:
        """FILE:LINE: NAME: MESSAGE; what is not in the file has the line of the table it is missing from."""
        lines = (self._line(at[:length]) for length in range(len(at), 0, -1))
        line = next(filter(None, lines), None)
        place = f"{self._path}:{line}" if line else f"{self._path}"
        return ConfigError(": ".join(filter(None, (place, _name(at), message))))

    def _line(self, at: _At) -> int | None:
        """Where the statement begins with which `at` exists: as many whole statements parse alone."""
        whole = 0
        for number in range(1, len(self._lines) + 1):
            try:
                content: Any = tomllib.loads("".join(self._lines[:number]))
            except tomllib.TOMLDecodeError:
                continue  # in the middle of a statement
            try:
                for part in at:
                    content = content[part]
            except (LookupError, TypeError):
                whole = number
            else:
                return whole + 1
        return None


def _name(at: _At) -> str:
    """`security[0].key`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in at).removeprefix(".")


class Table:
    """One table of a file; `at` is where it is, empty for the whole file."""

    def __init__(self, file: _File, content: dict[str, Any], at: _At = ()) -> None:
        self._file = file
        self._content = content
        self._at = at
        self._read: set[str] = set()

    @classmethod
    def load(cls, path: Path) -> Table:
        """Read a file."""
        try:
            text = path.read_text(encoding="utf-8")
            return cls(_File(path, text), tomllib.loads(text))
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from error
        except tomllib.TOMLDecodeError as error:
            found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", str(error))
            place, message = (f"{path}:{found[2]}:{found[3]}", found[1]) if found else (path, error)
            raise ConfigError(f"{place}: {message}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: {error}") from error

    def error(self, key: str, message: str) -> ConfigError:
        """An error about `key` of this table, "" for the table itself."""
        return self._file.error((*self._at, key) if key else self._at, message)

    def _get(self, key: str, kind: type, default: Any) -> Any:
        self._read.add(key)
        value = self._content.get(key, default)
        if value is _REQUIRED:
            raise self.error(key, "is missing")
        if value is default:
            return default
        # In Python, but not in TOML, a boolean is an integer.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(key, f"expected {_KINDS[kind]}, got {value!r}")
        return value

    def _convert(self, key: str, convert: Callable[[str], T], what: str, default: Any) -> T:
        value = self._get(key, str, default)
        if value is default:
            return value  # type: ignore[no-any-return]
        try:
            return convert(value)
        except ValueError as error:
            raise self.error(key, f"expected {what}, got {value!r}") from error

    def has(self, key: str) -> bool:
        """Whether the key is there."""
        return key in self._content

    def string(self, key: str, default: Any = _REQUIRED) -> str:
        """A string."""
        return self._get(key, str, default)  # type: ignore[no-any-return]

    def integer(self, key: str, default: Any = _REQUIRED) -> int:
        """An integer."""
        return self._get(key, int, default)  # type: ignore[no-any-return]

    def number(self, key: str, default: Any = _REQUIRED) -> float:
        """A number."""
        self._read.add(key)
        if isinstance(self._content.get(key), int):
            return float(self.integer(key))
        return self._get(key, float, default)  # type: ignore[no-any-return]

    def amount(self, key: str, default: float, most: float | None = None) -> float:
        """A number from 0 to `most`."""
        value = self.number(key, default)
        if value < 0 or (most is not None and value > most):
            wanted = "0 or more" if most is None else f"0 to {most:g}"
            raise self.error(key, f"expected {wanted}, got {value:g}")
        return value

    def boolean(self, key: str, default: Any = _REQUIRED) -> bool:
        """A boolean."""
        return self._get(key, bool, default)  # type: ignore[no-any-return]

    def address(self, key: str, default: Any = _REQUIRED) -> IPv4Address:
        """An IPv4 address."""
        return self._convert(key, parsed_address, "an IPv4 address", default)

    def network(self, key: str, default: Any = _REQUIRED) -> IPv4Network:
        """An IPv4 prefix without host bits."""
        return self._convert(key, IPv4Network, "an IPv4 prefix such as 10.0.1.0/24", default)

    def addresses(self, key: str) -> tuple[IPv4Address, ...]:
        """A list of IPv4 addresses, or one address; empty if it is not there."""
        value = self._content.get(key, [])
        if not isinstance(value, list):
            return (self.address(key),)
        self._read.add(key)
        try:
            return tuple(IPv4Address(str(each)) for each in value)
        except ValueError as error:
            raise self.error(key, f"expected IPv4 addresses: {error}") from error

    def networks(self, key: str, default: Any = _REQUIRED) -> tuple[IPv4Network, ...]:
        """A list of IPv4 prefixes without host bits."""
        values = self._get(key, list, default)
        try:
            return tuple(IPv4Network(str(value)) for value in values)
        except ValueError as error:
            raise self.error(key, f"expected IPv4 prefixes such as 10.0.1.0/24: {error}") from error

    def hexadecimal(self, key: str) -> bytes:
        """Bytes, written in hexadecimal; never quoted in an error, as they may be a secret."""
        value = self.string(key)
        try:
            return bytes.fromhex(value)
        except ValueError as error:
            raise self.error(key, "expected hexadecimal digits") from error

    def choice(self, key: str, choices: tuple[str, ...], default: Any = _REQUIRED) -> str:
        """One of `choices`."""
        value = self.string(key, default)
        if value not in choices:
            raise self.error(key, f"expected one of {', '.join(choices)}, got {value!r}")
        return value

    def member(self, key: str, kind: type[E], default: E) -> E:
        """The member of an enumeration, by its value."""
        return kind(self.choice(key, tuple(each.value for each in kind), default.value))

    def boolean_or_choice(self, key: str, choices: tuple[str, ...], default: Any) -> bool | str:
        """A boolean or one of `choices`."""
        if isinstance(self._content.get(key), str):
            return self.choice(key, choices)
        return self.boolean(key, default)

    def table(self, key: str) -> Table:
        """A table below this one; an empty one if it is not there."""
        return Table(self._file, self._get(key, dict, {}), (*self._at, key))

    def tables(self, key: str) -> list[Table]:
        """An array of tables; a lone table counts as one."""
        self._read.add(key)
        content = self._content.get(key, [])
        at = (*self._at, key)
        if isinstance(content, dict):
            return [Table(self._file, content, at)]
        if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
            raise self.error(key, "expected tables")
        return [Table(self._file, entry, (*at, n)) for n, entry in enumerate(content)]

    def each(self) -> dict[str, Table]:
        """Every key as a table below this one."""
        return {key: self.table(key) for key in self._content}

    def finish(self) -> None:
        """Complain about the first key that nobody asked for."""
        for key in self._content:
            if key not in self._read:
                from difflib import get_close_matches

                near = get_close_matches(key, self._read, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise self.error(key, f"unknown key{hint}")


_KINDS = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    dict: "a table",
    list: "a list",
}
