"""Captures of bays that were reset without the file's knowing, brought to where they are along the face by what is beside them.

Such a bay has no planned columns, and what happens to fit some of the file's pulls a capture by a centimetre. So captures that
look at one are settled a second time, once that is known: by the columns of the other bays in their pictures, and by their
neighbours (the pose graph of `stock.register`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from shelfscan.model.planogram import Planogram
from shelfscan.model.scan import BayScan
from shelfscan.model.store import BinPlace, PlacesAlong
from shelfscan.stock.register import along, edges, moved, relaxed

#: What a column's item and a relative measurement are off by, one standard deviation; so many columns are an absolute
#: measurement, so many of a face tell how boxes lean; an item is its column's within this share of the pitch.
COLUMN_M, SETTLED_M, LEAST_COLUMNS, LEAST_SLOPE, IN_COLUMN = 0.009, 0.005, 4, 30, 0.45
#: A capture's own correction is off by, where it is of such a bay alone.
OWN_M = 0.02
#: Named at least so surely.
LIKE = 0.5


def settled(
    scans: Sequence[BayScan], gondola_id: str, places: Sequence[BinPlace], planogram: Planogram, reset: Collection[str]
) -> list[BayScan]:
    """The captures that look at reset bays moved along the face, by what they show of its other bays.

    A box takes in an item's side on the camera's own side, so items seldom lie where their boxes' middles are, but by the less
    the squarer they are looked at: what the other bays show of that is taken off all boxes first. ``reset``: those bays;
    ``places``: the face's bins on their shelves as measured.
    """
    if not reset or len(scans) < 2:
        return list(scans)
    spans = [(p.x0_m, p.x1_m) for p in places if p.bay_id in reset]
    kept = PlacesAlong((p for p in places if p.bay_id not in reset), 0.02)
    votes = [_off_columns(s, gondola_id, kept, planogram) for s in scans]
    slope = slope_of(votes)
    looking = [any(a < o.face_m[0] < b for o in s.observations if o.gondola_id == gondola_id for a, b in spans) for s in scans]
    squared = [_squared(s, gondola_id, slope) for s in scans]
    absolute = []
    for off in votes:
        level = [off_m - slope * aside_m for off_m, aside_m in off]
        enough = len(level) >= LEAST_COLUMNS
        absolute.append((float(np.median(level)), COLUMN_M / math.sqrt(len(level))) if enough else (0.0, OWN_M))
    moves = relaxed(absolute, edges(squared, gondola_id, 0.0), SETTLED_M, 1.0)
    return [
        moved(new, gondola_id, d, places) if looks else old
        for old, new, looks, d in zip(scans, squared, looking, moves, strict=True)
    ]


def _off_columns(scan: BayScan, gondola_id: str, places: PlacesAlong, planogram: Planogram) -> list[tuple[float, float]]:
    """Of products that look like what is planned there: how far to the right of them the middles of their columns are, and how
    far to the right of the camera they are."""
    eye_m = _eye_m(scan, gondola_id)
    out: list[tuple[float, float]] = []
    for o in (o for o in scan.observations if o.gondola_id == gondola_id):
        x, _, z = o.face_m
        for p in places.near(x):
            if not (p.x0_m - 0.02 < x < p.x1_m + 0.02 and p.z0_m <= z <= p.z1_m):
                continue
            line = planogram[p.bin_id]
            if not any(c.sku == line.sku and c.score >= LIKE for c in o.candidates):
                continue
            pitch = (p.x1_m - p.x0_m) / line.facings_wide
            column = min(line.facings_wide - 1, max(0, math.floor((x - p.x0_m) / pitch)))
            off = p.x0_m + (column + 0.5) * pitch - x
            if abs(off) < IN_COLUMN * pitch:
                out.append((off, x - eye_m))
    return out


def _eye_m(scan: BayScan, gondola_id: str) -> float:
    """Where along the face a capture's cameras are."""
    eyes = [f.eye_x_m for f in scan.fronts if f.gondola_id == gondola_id]
    return float(np.median(eyes)) if eyes else 0.0


def slope_of(votes: Sequence[Sequence[tuple[float, float]]]) -> float:
    """How much further off boxes are with every metre beside the camera, by least squares within the captures, the second time
    without what is far off the line."""
    rows = [np.array(v) for v in votes if len(v) >= LEAST_COLUMNS]
    if sum(len(r) for r in rows) < LEAST_SLOPE:
        return 0.0
    slope, kept = 0.0, rows
    for _ in range(2):
        kept = [r for r in kept if len(r) > 1]
        if not kept:
            return 0.0  # no line in them
        x = np.concatenate([r[:, 1] - r[:, 1].mean() for r in kept])
        y = np.concatenate([r[:, 0] - np.median(r[:, 0]) for r in kept])
        slope = float(x @ y / max(1e-6, x @ x))
        level = [r[:, 0] - slope * r[:, 1] for r in rows]
        kept = [r[np.abs(v - np.median(v)) < 2 * COLUMN_M] for r, v in zip(rows, level, strict=True)]
    return slope


def _squared(scan: BayScan, gondola_id: str, slope: float) -> BayScan:
    """A capture with its boxes where they would be, had each been looked at squarely."""
    eye_m = _eye_m(scan, gondola_id)
    seen = tuple(
        replace(o, face_m=along(o.face_m, slope * (o.face_m[0] - eye_m))) if o.gondola_id == gondola_id else o
        for o in scan.observations
    )
    return replace(scan, observations=seen)
