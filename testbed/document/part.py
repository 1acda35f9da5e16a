"""What all parts of a topology file share, and two words that claims and configurations have in common."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from testbed.agreed import Stack as Stack

Attachment = Literal["co-located", "foreign-agent"]


class Part(BaseModel):
    """What all parts of a topology share: unknown keys are errors, and nothing changes once loaded."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
