"""What healthy runs measure, on disk (``models/health.json``, or a robot's own in ``STORE/health.json``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from shelfscan.audit.health import Baseline
from shelfscan.inputs import read_json_model
from shelfscan.runfolder import write_atomic

Deviation = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    usual: dict[str, tuple[float, Deviation]]
    runs: int = Field(ge=0)
    learned_from: dict[str, Any] = {}


def load_baseline(path: Path) -> Baseline:
    """Read a baseline. Raises `BadInput` naming file and field."""
    f = read_json_model(path, _File)
    return Baseline(f.usual, f.runs)


def save_baseline(path: Path, baseline: Baseline, learned_from: dict[str, Any]) -> None:
    """Write it with what it was learned from."""
    usual = {k: [round(v, 6) for v in x] for k, x in sorted(baseline.usual.items())}
    text = json.dumps({"usual": usual, "runs": baseline.runs, "learned_from": learned_from}, indent=1)
    write_atomic(path, (text + "\n").encode())
