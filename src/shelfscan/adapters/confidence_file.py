"""Calibration tables on disk (``models/confidence.json``, or a site's own)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from shelfscan.audit.confidence import ConfidenceModel
from shelfscan.errors import BadInput
from shelfscan.inputs import read_json_model
from shelfscan.runfolder import write_atomic

Share = Annotated[float, Field(ge=0, le=1)]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    tables: dict[str, Annotated[list[tuple[Share, Share]], Field(min_length=1)]]
    alarm_from: Share = 0.95
    learned_from: dict[str, Any] = {}


def load_confidence(path: Path) -> ConfidenceModel:
    """Read the tables. Raises `BadInput` naming file and field."""
    f = read_json_model(path, _File)
    for key, table in f.tables.items():
        raw = [r for r, _ in table]
        if raw != sorted(set(raw)):
            raise BadInput(f"{path}: tables.{key}: expected raw values that rise")
    return ConfidenceModel({k: tuple((r, p) for r, p in t) for k, t in f.tables.items()}, f.alarm_from)


def save_confidence(path: Path, model: ConfidenceModel, learned_from: dict[str, Any]) -> None:
    """Write the tables with what they were learned from."""
    tables = {k: [list(x) for x in t] for k, t in sorted(model.tables.items())}
    write_atomic(
        path,
        (
            json.dumps({"alarm_from": model.alarm_from, "tables": tables, "learned_from": learned_from}, indent=1) + "\n"
        ).encode(),
    )
