"""What should stand where."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PlanogramLine:
    """The plan for one bin.

    ``min_units`` None: a third of the full capacity, rounded up. ``max_units`` None: the full capacity.
    """

    bin_id: str
    sku: str
    facings_wide: int
    facings_high: int
    facings_deep: int
    min_units: int | None = None
    max_units: int | None = None

    @property
    def capacity_units(self) -> int:
        """Units in the bin when it is full."""
        return self.facings_wide * self.facings_high * self.facings_deep

    @property
    def low_at_units(self) -> int:
        """At or below this many units (and above none) the bin is LOW."""
        return self.min_units if self.min_units is not None else math.ceil(self.capacity_units / 3)

    @property
    def most_units(self) -> int:
        """More units than this are more than the bin is planned to hold."""
        return self.max_units if self.max_units is not None else self.capacity_units


def emptied_by_chance(line: PlanogramLine, columns: int) -> float:
    """How likely shoppers empty just ``columns`` of a full bin, taking from any column, and nothing from the others; 0..1.

    Given that they take as many units as those columns held.
    """
    each = line.facings_deep * line.facings_high
    wide, gone = line.facings_wide, columns * each
    if not 0 < columns < wide:
        return 1.0
    # Ways to take `gone` units from those columns alone, until each is empty, among all sequences of columns.
    ways = math.comb(wide, columns) * math.factorial(gone) // math.factorial(each) ** columns
    return float(min(1.0, ways / wide**gone))


Planogram = Mapping[str, PlanogramLine]
