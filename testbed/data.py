"""Where the product's data files are: topologies, templates, images, lessons.

In a checkout they are folders beside the package; in a wheel they are copied to `testbed/data/`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Kind = Literal["topologies", "templates", "images", "lessons"]

_PACKAGE = Path(__file__).resolve().parent


def data_dir(kind: Kind) -> Path:
    """The folder of one kind of data file; the same call works in a checkout and in an installed wheel."""
    installed = _PACKAGE / "data" / kind
    return installed if installed.is_dir() else _PACKAGE.parent / kind


def checkout() -> Path | None:
    """The folder of the checkout that this is; None where testbed is installed from a wheel."""
    root = _PACKAGE.parent
    return root if (root / "pyproject.toml").is_file() and not (_PACKAGE / "data").is_dir() else None
