"""What was learned of how goods stand (``models/units.json``)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from shelfscan.audit.units import UnitsModel
from shelfscan.errors import BadInput
from shelfscan.inputs import read_json_model

Share = Annotated[float, Field(ge=0, le=1)]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    faced_up: Share
    share: Annotated[tuple[Share, ...], Field(min_length=2)]
    slip_edge: Annotated[tuple[tuple[int, Share], ...], Field(min_length=1)]
    slip_back: Annotated[tuple[tuple[int, Share], ...], Field(min_length=1)]
    tops: tuple[float, float, float, float]
    learned_from: dict[str, Any] = {}


def load_units_model(path: Path) -> UnitsModel:
    """Read the model. Raises `BadInput` naming file and field."""
    f = read_json_model(path, _File)
    for name, total in (
        ("share", sum(f.share)),
        ("slip_edge", sum(p for _, p in f.slip_edge)),
        ("slip_back", sum(p for _, p in f.slip_back)),
    ):
        if not math.isclose(total, 1.0, abs_tol=1e-3):
            raise BadInput(f"{path}: {name}: probabilities add up to {total:.4f}; expected 1")
    return UnitsModel(f.faced_up, f.share, f.slip_edge, f.slip_back, f.tops)


def save_units_model(path: Path, model: UnitsModel, learned_from: dict[str, Any]) -> None:
    """Write the model with what it was learned from."""
    data = {name: getattr(model, name) for name in ("faced_up", "share", "slip_edge", "slip_back", "tops")}
    path.write_text(json.dumps({**data, "learned_from": learned_from}, indent=1) + "\n", encoding="utf-8")
