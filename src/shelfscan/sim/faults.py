"""Things that go wrong on purpose: a YAML list of what, when and how long."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shelfscan.errors import BadInput
from shelfscan.inputs import field_problems, read_yaml


class Fault(BaseModel):
    """``kind``: camera_silent (``head``), blocked (a disc at ``x_m, y_m``), battery_low.

    ``head`` empty: all of them. ``at_s`` and ``for_s`` are simulated seconds from the first drive on; ``for_s`` None lasts
    till the end.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["camera_silent", "blocked", "battery_low"]
    at_s: float = Field(default=0.0, ge=0)
    for_s: float | None = Field(default=None, gt=0)
    head: str = ""
    x_m: float = 0.0
    y_m: float = 0.0
    radius_m: float = Field(default=0.4, gt=0, lt=5)

    def active(self, elapsed_s: float) -> bool:
        """Whether it is on at a time."""
        return elapsed_s >= self.at_s and (self.for_s is None or elapsed_s < self.at_s + self.for_s)


@dataclass(frozen=True)
class Faults:
    """All faults of a run."""

    items: tuple[Fault, ...] = ()

    @staticmethod
    def load(path: Path) -> Faults:
        """Read a fault file. Raises `BadInput` naming the entry and field."""
        data = read_yaml(path, "fault file")
        if not isinstance(data, list):
            raise BadInput(f"{path}: expected a list of faults, each with kind, at_s, for_s")
        problems: list[str] = []
        faults: list[Fault] = []
        for n, entry in enumerate(data):
            try:
                faults.append(Fault.model_validate(entry))
            except ValidationError as e:
                problems += field_problems(f"{path}: fault {n}", e, Fault)
        if problems:
            raise BadInput(problems)
        return Faults(tuple(faults))

    def problems(self, heads: Collection[str]) -> list[str]:
        """What does not fit a robot with these heads: a fault that never happens would look like a robot that copes."""
        known = ", ".join(sorted(heads))
        return [
            f"fault {n}: head: the robot has no head {f.head!r}; it has {known}"
            for n, f in enumerate(self.items)
            if f.head and f.head not in heads
        ]

    def active(self, kind: str, elapsed_s: float) -> list[Fault]:
        """The faults of a kind that are on at a time."""
        return [f for f in self.items if f.kind == kind and f.active(elapsed_s)]
