"""Reading the TOML files of the node programs: unknown or missing keys and bad values are errors."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

_REQUIRED = object()


class ConfigError(Exception):
    """The configuration file cannot be used; the message names the file and the key."""


class Table:
    """One TOML table, read key by key; `done()` refuses what nobody asked for."""

    def __init__(self, values: Mapping[str, object], where: str) -> None:
        self._values = dict(values)
        self._where = where

    @classmethod
    def load(cls, path: Path) -> Table:
        """Read the file at `path`; raises ConfigError when it cannot be read or is not TOML."""
        try:
            return cls(tomllib.loads(path.read_text()), str(path))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: {error}") from error

    def error(self, key: str, problem: str) -> ConfigError:
        """A ConfigError that names this table and `key`."""
        return ConfigError(f"{self._where}: {key}: {problem}")

    def _take(self, key: str, kind: type | tuple[type, ...], default: object, what: str) -> object:
        value = self._values.pop(key, default)
        if value is _REQUIRED:
            raise self.error(key, f"missing ({what})")
        if value is not default and (
            not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)
        ):
            raise self.error(key, f"expected {what}, got {value!r}")
        return value

    def text(self, key: str, default: object = _REQUIRED) -> str:
        """A string."""
        return str(self._take(key, str, default, "a string"))

    def choice(self, key: str, choices: tuple[str, ...], default: object = _REQUIRED) -> str:
        """One of `choices`."""
        value = self.text(key, default)
        if value not in choices:
            raise self.error(key, f"expected one of {', '.join(choices)}, got {value!r}")
        return value

    def flag(self, key: str, default: object = _REQUIRED) -> bool:
        """A boolean."""
        return bool(self._take(key, bool, default, "true or false"))

    def number(self, key: str, default: object = _REQUIRED, *, most: float | None = None) -> float:
        """A number from 0 to `most`."""
        value = float(str(self._take(key, (int, float), default, "a number")))
        if value < 0 or (most is not None and value > most):
            raise self.error(
                key, f"expected 0 to {most}, got {value}" if most else f"expected 0 or more, got {value}"
            )
        return value

    def address(self, key: str) -> IPv4Address:
        """An IPv4 address."""
        try:
            return IPv4Address(self.text(key))
        except ValueError as error:
            raise self.error(key, str(error)) from error

    def optional_address(self, key: str) -> IPv4Address | None:
        """An IPv4 address, or None where the key is absent."""
        return self.address(key) if key in self._values else None

    def prefixes(self, key: str) -> tuple[IPv4Network, ...]:
        """A list of IPv4 prefixes."""
        values = self._take(key, list, _REQUIRED, "a list of prefixes")
        assert isinstance(values, list)
        try:
            return tuple(IPv4Network(value) for value in values)
        except ValueError as error:
            raise self.error(key, str(error)) from error

    def table(self, key: str) -> Table:
        """A sub-table; empty where the key is absent."""
        values = self._take(key, dict, {}, "a table")
        assert isinstance(values, dict)
        return Table(values, f"{self._where}: [{key}]")

    def tables(self) -> dict[str, Table]:
        """Every remaining key as a sub-table."""
        return {key: self.table(key) for key in list(self._values)}

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def done(self) -> None:
        """Refuse keys that were not read."""
        if self._values:
            raise self.error(sorted(self._values)[0], "unknown key")
