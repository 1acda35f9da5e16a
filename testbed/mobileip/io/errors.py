"""What ends a daemon, or refuses a command, with a message for people."""

from __future__ import annotations


class ConfigError(Exception):
    """The configuration file cannot be used: `FILE: KEY: what is wrong`."""


class NodeError(Exception):
    """The kernel of this node refuses something, or lacks it."""
