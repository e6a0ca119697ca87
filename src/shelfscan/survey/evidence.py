"""Which picture of the drive shows a proposed bin."""

from __future__ import annotations

from collections.abc import Sequence

from shelfscan.model.scan import BayScan
from shelfscan.model.store import Store
from shelfscan.survey.propose import Line


def pictured(lines: Sequence[Line], driven: Store, scans: Sequence[BayScan]) -> list[str]:
    """For each line the evidence picture, below the run's ``evidence/``, that shows most of its front; empty when none does.

    The drive took pictures of the places of the layout it was driven with (``driven``), whatever was believed of them.
    """
    pictures: dict[str, list[str]] = {}
    for scan in scans:
        for c in scan.coverage:
            if c.evidence:
                pictures.setdefault(c.bin_id, []).append(c.evidence)
    out = []
    for x in lines:
        x0, x1 = x.bay_x_m + x.x_m, x.bay_x_m + x.x_m + x.width_m
        best: tuple[float, str] = (0.0, "")
        for p in driven.places_of(x.gondola_id):
            wide = min(x1, p.x1_m) - max(x0, p.x0_m)
            high = min(x.shelf_z_m + x.clear_height_m, p.z1_m) - max(x.shelf_z_m, p.z0_m)
            if p.bin_id in pictures and wide > 0 and high > 0:
                best = max(best, (wide * high, sorted(pictures[p.bin_id])[0]))
        out.append(best[1])
    return out
