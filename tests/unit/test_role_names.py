"""No host module knows the name of a role or of a setting: it asks for a function or a meaning."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.topology.roles import role_files

PACKAGE = Path(__file__).parents[2] / "testbed"
OTHERS = ("mobileip", "node", "engine")
"""Rooms that cannot know a topology."""

WORDS_OF_OTHERS = {
    "hub": "the key of a network, besides the role",
    "ospf": "a protocol's name in pcap filters",
}
"""What is the name of a role by chance, and so may be written anywhere but where roles are looked at."""

ATTACHMENT = {"foreign-agent"}
"""The care-of address is a foreign agent's: the other word is `co-located`."""

ALLOWED: dict[str, set[str]] = {
    "document/functions.py": set(role_files()),  # where functions and meanings get their names
    "agreed.py": {"x-mobile-node"},  # the service, which has the name of its role
    "document/part.py": ATTACHMENT,
    "topology/check.py": ATTACHMENT,
    "report/overhead.py": ATTACHMENT,
    # The word `mobile-node` of the vocabulary, and the attachment.
    "claim/expect/mobile_node.py": {"mobile-node", "foreign-agent"},
}
"""Module → the names that it may have."""

FILES = [file for file in sorted(PACKAGE.rglob("*.py")) if file.relative_to(PACKAGE).parts[0] not in OTHERS]


def role_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Texts that are the name of a built-in role, and what is looked for among a node's roles; with lines."""
    roles = set(role_files()) - WORDS_OF_OTHERS.keys()
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if text in roles:
                yield text, node.lineno
            case ast.Compare(left=ast.Constant(value=str(text)), comparators=[ast.Attribute(attr="roles")]):
                yield text, node.lineno
            case ast.Call(func=ast.Attribute(attr="with_role" | "acts_as"), args=arguments):
                for argument in arguments:
                    if isinstance(argument, ast.Constant):
                        yield str(argument.value), node.lineno


def setting_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Settings of a node that are read by a name: `settings[…]["probe"]`, `settings.get("probe")`."""
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=read, slice=ast.Constant(value=key)) if _settings(read):
                yield str(key), node.lineno
            case ast.Call(func=ast.Attribute(value=read, attr="get"), args=[ast.Constant(value=key), *_]) if (
                _settings(read)
            ):
                yield str(key), node.lineno


def _settings(node: ast.expr) -> bool:
    """Whether an expression is the settings of nodes, or of one of them."""
    if isinstance(node, ast.Subscript):
        return _settings(node.value)
    return (node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")) == "settings"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_module_knows_roles_or_settings_by_name(file: Path) -> None:
    allowed = ALLOWED.get(str(file.relative_to(PACKAGE)), set())
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert [one for one in (*role_names(tree), *setting_names(tree)) if one[0] not in allowed] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x = lab.with_role('hub')", ["hub"]),
        ("if 'hub' in node.roles: pass", ["hub"]),
        ("x = {'hub': 1}", []),
        ("x = {\n'home-agent': 1}", ["home-agent"]),
        ("topology.settings[name]['anything']", ["anything"]),
        ("settings.get('anything')", ["anything"]),
        ("topology.settings[name]", []),
        ("other['anything']", []),
    ],
)
def test_it_would_be_found(text: str, found: list[str]) -> None:
    tree = ast.parse(text)
    assert [name for name, _ in (*role_names(tree), *setting_names(tree))] == found
