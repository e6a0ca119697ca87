"""Where shelves hang, by their price tags, and which hang elsewhere than the layout says."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from statistics import NormalDist

from shelfscan.audit.tags import TAG_BELOW_M
from shelfscan.model.scan import BayScan
from shelfscan.model.store import BinPlace

#: A shelf that hangs this far from where the layout has it is told.
DRIFT_M = 0.015
#: How well tags measure a shelf's height, and a stereo camera's baseline its depth (standard deviations): a wrong depth moves
#: what is seen above or below the camera's height along the ray.
DRIFT_SIGMA_M, DEPTH_SCALE = 0.001, 0.005


def shelf_heights(scans: Sequence[BayScan], gondola_id: str) -> dict[str, float]:
    """How far above the layout's height each shelf of a face is, metres: the median of the captures that measured it."""
    told: dict[str, list[float]] = {}
    for scan in scans:
        for alignment in scan.alignments:
            if alignment.gondola_id == gondola_id:
                for shelf, up_m in alignment.shelves:
                    told.setdefault(shelf, []).append(up_m)
    return {shelf: statistics.median(values) for shelf, values in told.items()}


def drifted_shelves(
    places: Sequence[BinPlace], heights: Mapping[str, float], eyes_m: Sequence[float]
) -> dict[str, tuple[float, float]]:
    """Shelves that hang clearly elsewhere than the layout says: how far up, and how sure it is that this is further than is
    told from on; by the shelf's first bin. ``eyes_m``: heights of the cameras."""
    first: dict[str, BinPlace] = {}
    for p in sorted(places, key=lambda p: (p.x0_m, p.bin_id)):
        first.setdefault(p.shelf_id, p)
    out: dict[str, tuple[float, float]] = {}
    for shelf, up_m in heights.items():
        if shelf in first and abs(up_m) >= DRIFT_M:
            lever_m = min((abs(first[shelf].z0_m - TAG_BELOW_M - eye) for eye in eyes_m), default=0.0)
            sigma_m = math.hypot(DRIFT_SIGMA_M, DEPTH_SCALE * lever_m)
            out[first[shelf].bin_id] = up_m, NormalDist().cdf((abs(up_m) - DRIFT_M) / sigma_m)
    return out
