"""How many units stand in a bin, from how deep each column's front stands. Columns deplete from the front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shelfscan.audit.match import Placed
from shelfscan.model.catalogue import Product
from shelfscan.model.planogram import PlanogramLine

#: Where the front row of a full column stands behind the shelf's edge, and the air between two rows: how goods are
#: commonly put up, not measured. Both matter little against an item's depth: on a simulated store anything from 0 to
#: 2 cm and from 2 to 4 mm gives the same counts to within a bin or two in 250; 8 mm of air costs two bins in a hundred.
FRONT_M = 0.014
AIR_M = 0.004
#: Assumed share of bins whose fronts are pulled forward; then what is seen at the edge says little about what is behind.
FACED_UP = 0.15


@dataclass(frozen=True, slots=True)
class Units:
    """Best estimate and inclusive 95 % interval."""

    best: float
    low: int
    high: int


def estimate(placed: Sequence[Placed], line: PlanogramLine, product: Product) -> Units:
    """Units of the planned SKU in a bin, from its taken places.

    Behind a stranger there may be more of the planned SKU: it hides them, so they count towards the best estimate and
    the upper end, not towards the lower.
    """
    step = product.depth_m + AIR_M
    total = hidden = least = 0
    at_edge = True
    for p in placed:
        missing = min(line.facings_deep - 1, max(0, round((p.face_m[1] - FRONT_M) / step)))
        if not p.planned:
            hidden += line.facings_deep - missing - 1
            continue
        least += 1
        at_edge = at_edge and missing == 0
        total += line.facings_deep - missing
    if least == 0 and line.facings_wide > len({p.column for p in placed}):
        # The columns beside the stranger's are empty, and columns of a bin deplete together.
        hidden = 0
    total = min(total, line.capacity_units)
    best = min(total + hidden, line.capacity_units)
    if least == 0:
        return Units(float(best), 0, best if best or not placed else 1)
    if not at_edge:
        # Something stands back, so nobody faced this bin up: what is behind is there. The front's depth is measured to
        # a few millimetres; a row more or less in one column is possible where items are thin.
        slack = 1 if step > 0.05 else max(1, line.facings_wide)
        return Units(float(best), max(least, total - slack), min(line.capacity_units, best + slack))
    # All at the edge: full, or faced up. The 95 % interval must hold the faced-up case unless it is rarer than 5 %.
    low = max(least, round(0.3 * total)) if FACED_UP > 0.05 else total
    return Units(float(best), low, best)
