"""What should stand where."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PlanogramLine:
    """The plan for one bin. ``min_units`` None: a third of the full capacity, rounded up."""

    bin_id: str
    sku: str
    facings_wide: int
    facings_high: int
    facings_deep: int
    min_units: int | None = None

    @property
    def capacity_units(self) -> int:
        """Units in the bin when it is full."""
        return self.facings_wide * self.facings_high * self.facings_deep

    @property
    def low_at_units(self) -> int:
        """At or below this many units (and above none) the bin is LOW."""
        return self.min_units if self.min_units is not None else math.ceil(self.capacity_units / 3)


Planogram = Mapping[str, PlanogramLine]
