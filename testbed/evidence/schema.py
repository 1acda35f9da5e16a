"""JSON Schemas of the evidence's files, generated from the models that write and read them."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from testbed.evidence import folder
from testbed.evidence.handoff import HandOffs
from testbed.evidence.run import CaptureRecord, EventRecord, Observation, RunRecord, StepRecord
from testbed.evidence.verdicts import Verdicts
from testbed.evidence.versions import Versions

FILES: Final[dict[str, type[BaseModel]]] = {
    folder.VERDICTS: Verdicts,
    folder.HANDOFF: HandOffs,
    folder.VERSIONS: Versions,
    folder.RUN: RunRecord,
    folder.CAPTURED: CaptureRecord,
    folder.EVENTS: EventRecord,
    folder.STEPS: StepRecord,
    folder.OBSERVATIONS: Observation,
}
"""File → the model of the file, or, of JSON lines, of one line."""


def evidence_schema(file: str) -> dict[str, Any]:
    """The JSON Schema of a file of the evidence."""
    schema = FILES[file].model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
