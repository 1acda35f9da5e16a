"""Which engines the labs of this user are on, where they are on several.

Labels say it, too (`names.ENGINES`), but on these engines alone, and no other place leads to them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from testbed.errors import writing


def text(addresses: Mapping[str, str]) -> str:
    """The engines of a lab, for a label: name → address."""
    return json.dumps(dict(addresses), sort_keys=True)


def parse(written: str) -> dict[str, str] | None:
    """Read what `text` wrote; None for anything else."""
    try:
        return {str(name): str(address) for name, address in json.loads(written).items()}
    except (ValueError, AttributeError):
        return None


def remember(lab: str, addresses: Mapping[str, str]) -> None:
    """Note which engines a lab is on. Raises `UsageError` where the note cannot be written."""
    file = note(lab)
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text(addresses), encoding="utf-8")


def forget(lab: str) -> None:
    """Remove the note. One that is not there is fine."""
    note(lab).unlink(missing_ok=True)


def recorded(lab: str) -> dict[str, str] | None:
    """The engines of a lab; None where nothing says that it is on several."""
    try:
        return parse(note(lab).read_text(encoding="utf-8"))
    except OSError:
        return None


def all_recorded() -> dict[str, dict[str, str]]:
    """The labs that are on several engines, and which."""
    found = {file.stem: recorded(file.stem) for file in sorted(_folder().glob("*.json"))}
    return {lab: engines for lab, engines in found.items() if engines}


def note(lab: str) -> Path:
    """The file that says which engines a lab is on, where it is on several."""
    return _folder() / f"{lab}.json"


def _folder() -> Path:
    state = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
    return state / "testbed" / "engines"
