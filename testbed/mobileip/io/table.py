"""A TOML table that is read once, strictly: wrong types, missing and unknown keys are ConfigErrors."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, TypeVar

from testbed.mobileip.io.errors import ConfigError

T = TypeVar("T")
_REQUIRED: Any = object()


class Table:
    """One table of `file`; `path` is its name there, empty for the whole file."""

    def __init__(self, file: Path, content: dict[str, Any], path: str = "") -> None:
        self._file = file
        self._content = content
        self._path = path
        self._read: set[str] = set()

    @classmethod
    def load(cls, file: Path) -> Table:
        """Read a file."""
        try:
            return cls(file, tomllib.loads(file.read_text(encoding="utf-8")))
        except OSError as error:
            raise ConfigError(f"{file}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file}: {error}") from error

    def error(self, key: str, message: str) -> ConfigError:
        """An error about `key` of this table."""
        return ConfigError(f"{self._file}: {self._path}{'.' if self._path and key else ''}{key}: {message}")

    def _get(self, key: str, kind: type, default: Any) -> Any:
        self._read.add(key)
        value = self._content.get(key, default)
        if value is _REQUIRED:
            raise self.error(key, "is missing")
        if value is default:
            return default
        # In Python, but not in TOML, a boolean is an integer.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(key, f"expected {_KINDS[kind]}, not {value!r}")
        return value

    def _convert(self, key: str, convert: Callable[[str], T], what: str, default: Any) -> T:
        value = self._get(key, str, default)
        if value is default:
            return value  # type: ignore[no-any-return]
        try:
            return convert(value)
        except ValueError as error:
            raise self.error(key, f"expected {what}, not {value!r}") from error

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

    def boolean(self, key: str, default: Any = _REQUIRED) -> bool:
        """A boolean."""
        return self._get(key, bool, default)  # type: ignore[no-any-return]

    def address(self, key: str, default: Any = _REQUIRED) -> IPv4Address:
        """An IPv4 address."""
        return self._convert(key, IPv4Address, "an IPv4 address", default)

    def network(self, key: str, default: Any = _REQUIRED) -> IPv4Network:
        """An IPv4 prefix without host bits."""
        return self._convert(key, IPv4Network, "an IPv4 prefix such as 10.0.1.0/24", default)

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
            raise self.error(key, f"expected one of {', '.join(choices)}, not {value!r}")
        return value

    def boolean_or_choice(self, key: str, choices: tuple[str, ...], default: Any) -> bool | str:
        """A boolean or one of `choices`."""
        if isinstance(self._content.get(key), str):
            return self.choice(key, choices)
        return self.boolean(key, default)

    def table(self, key: str) -> Table:
        """A table below this one; an empty one if it is not there."""
        return Table(self._file, self._get(key, dict, {}), self._name(key))

    def tables(self, key: str) -> list[Table]:
        """An array of tables; a lone table counts as one."""
        self._read.add(key)
        content = self._content.get(key, [])
        entries = content if isinstance(content, list) else [content]
        if not all(isinstance(entry, dict) for entry in entries):
            raise self.error(key, "expected tables")
        return [Table(self._file, entry, f"{self._name(key)}[{n}]") for n, entry in enumerate(entries)]

    def _name(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def finish(self) -> None:
        """Complain about the first key that nobody asked for."""
        for key in self._content:
            if key not in self._read:
                near = difflib.get_close_matches(key, self._read, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise self.error(key, f"unknown key{hint}")


_KINDS = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    dict: "a table",
}
