"""Steps in words, for evidence and for people."""

from __future__ import annotations

from typing import Any

from testbed.claim.steps import Step
from testbed.document.values import format_duration


def step_text(step: Step) -> str:
    """What is done, as a line: `move to airport, hotel, 2 times`."""
    part = step.part
    if step.wait_until:
        return f"wait until {step.wait_until.phrase()}"
    if step.expect:
        return f"expect {step.expect.phrase()}"
    if step.move:
        times = f", {step.move.times} times" if step.move.times > 1 else ""
        who = f" of {step.move.node}" if step.move.node else ""
        return f"move{who} to {', '.join(step.move.to)}{times}"
    given: dict[str, Any] = part.model_dump(by_alias=True, exclude_defaults=True, mode="json")
    given |= {key: format_duration(given[key]) for key in ("within", "every") if key in given}
    if len(given) == 1:
        value = next(iter(given.values()))
        return f"{step.word} {', '.join(value) if isinstance(value, list) else value}"
    return f"{step.word} " + ", ".join(f"{key} {value}" for key, value in given.items())
