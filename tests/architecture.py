"""Reads the imports of the package, and draws from them the picture in docs/architecture.md.

    python tests/architecture.py        writes the picture anew

A test holds the file against what is drawn.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
PACKAGE = CHECKOUT / "testbed"
DOCUMENT = CHECKOUT / "docs" / "architecture.md"
FILES = sorted(PACKAGE.rglob("*.py"))


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(file) for file in FILES}

_DRAWN = re.compile(r"(?<=<!-- drawn by tests/architecture.py -->\n).*?(?=<!-- end -->)", re.DOTALL)


@cache
def imports(file: Path) -> frozenset[str]:
    """Every module that a file imports, wherever in it, with relative imports resolved."""
    package = file.relative_to(PACKAGE.parent).parent.parts
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            found |= {
                full if (full := f"{module}.{alias.name}") in MODULES else module for alias in node.names
            }
    return frozenset(found)


def room(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def arrows() -> dict[str, set[str]]:
    """Room → the rooms that its files import."""
    found: dict[str, set[str]] = {room(file): set() for file in FILES if file.parent != PACKAGE or room(file)}
    found.pop("__init__")
    for file in FILES:
        if room(file) in found:
            found[room(file)] |= {
                module.split(".")[1] for module in imports(file) if module.startswith("testbed.")
            } - {room(file)}
    return found


def reduced(edges: Mapping[str, set[str]]) -> dict[str, list[str]]:
    """The same without the arrows that lead where others lead together. There must be no circle."""

    def below(here: str) -> set[str]:
        return {here}.union(*(below(one) for one in edges[here]))

    return {
        here: sorted(one for one in those if not any(one in below(other) for other in those - {one}))
        for here, those in edges.items()
    }


def says(name: str) -> str:
    """The first sentence of a room's docstring."""
    file = PACKAGE / name / "__init__.py"
    text = (
        ast.get_docstring(ast.parse((file if file.is_file() else PACKAGE / f"{name}.py").read_text())) or ""
    )
    return re.split(r"(?<=\.)(?:\s|$)", " ".join(text.split()), maxsplit=1)[0].rstrip(".")


def drawing() -> str:
    """The picture and the list of rooms, those first that import nothing."""
    edges = arrows()
    lines = ["```mermaid", "graph BT"]
    for here, those in reduced(edges).items():
        lines += [f"    {here} --> {one}" for one in those]
        lines += [f"    {here}"] if not those and not any(here in others for others in edges.values()) else []
    lines += ["```", "", "| room | what it is for |", "|---|---|"]
    lines += [f"| `{name}` | {says(name)} |" for name in _layers(edges)]
    return "\n".join(lines) + "\n"


def _layers(edges: Mapping[str, set[str]]) -> Iterator[str]:
    left = dict(edges)
    while left:
        ready = [name for name, those in left.items() if not those & set(left)]
        if not ready:
            raise ValueError(f"a circle of imports: {', '.join(left)}")
        yield from ready
        left = {name: those for name, those in left.items() if name not in ready}


def written(document: str) -> str:
    """The document with the picture as it has to be."""
    return _DRAWN.sub(lambda _: drawing(), document)


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
