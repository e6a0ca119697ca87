"""Where a capture really was: the pose corrected by what it shows of a face, against the layout and the plan.

A localisation is some centimetres and a degree off, which is a bin too far along the face and a row of units too deep.
But the face itself is known: price tags hang in its front plane, at the height of their shelf, and most goods stand in the
columns that are planned for them. So one capture, all its heads together, tells a small plane motion in the face frame:

- *into the shelf and about the vertical*: a line through the tags, by iteratively reweighted least squares (Holland and
  Welsch, 1977) together with the prior;
- *along the face*: each product votes for the shifts that bring it to a column planned for what it looks like; the votes,
  with the prior, have one summit (a mean shift, Comaniciu and Meer, 2002, from the best of a grid). Columns repeat, so
  one product says little; the bins' different pitches and names settle it. Where two summits are about equally high,
  nothing is settled, and nothing is corrected along the face.

Shelves are then measured one by one: how far each one's tags hang from where the layout has the shelf.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from shelfscan.model.catalogue import Catalogue
from shelfscan.model.geometry import Array
from shelfscan.model.planogram import Planogram
from shelfscan.model.scan import Alignment, Observation
from shelfscan.model.store import BinPlace, on_shelves

#: What a localisation is believed to be wrong by, one standard deviation: along and across the face, and about the vertical.
#: Wider than a good one's few centimetres: the face knows better.
PRIOR_M, PRIOR_RAD = 0.05, math.radians(1.5)
#: A tag's centre hangs so far below its shelf's surface and before the front plane.
TAG_BELOW_M, TAG_BEFORE_M = 0.0225, 0.0075
#: Depth of one tag as measured: a standard deviation; beyond three of them it is no tag in the plane.
TAG_DEPTH_M = 0.006
#: How well a column's item stands in the middle of its place, together with how well its box says where it is.
COLUMN_M = 0.009
#: Shifts along the face that are tried.
REACH_M, STEP_M = 0.16, 0.002
#: Bins further away along the face are not in the pictures.
NEAR_M = 1.2
#: Items further from any shelf's surface than this, by their foot, say nothing about columns.
FOOT_M = 0.06
#: A box whose width differs by more from the item's is cut or merged.
WIDTH_SHARE = 0.2
#: A second summit, further away than this, of at least such a share of the first leaves the shift unsettled.
SUMMIT_M, SUMMIT_SHARE = 0.02, 0.85
#: Fewer products with a vote than this settle nothing.
LEAST_VOTES = 4
#: Beyond these a pose is not believed: across the face, tags from one plane, and tags from the next shelf; with so many tags.
DOUBT_M, DOUBT_PLANE_M, DOUBT_HEIGHT_M, DOUBT_TAGS = 0.25, 0.03, 0.09, 6
#: A shelf is believed to be off by one standard deviation of this; tags further off than the gate are another shelf's.
SHELF_PRIOR_M, SHELF_GATE_M, TAG_HEIGHT_M = 0.02, 0.055, 0.004


@dataclass(frozen=True)
class _Line:
    y0_m: float
    slope: float
    sigma_m: float
    sigma_rad: float


def align_plane(gondola_id: str, about_x_m: float, tag_points: Array, places: Sequence[BinPlace]) -> Alignment:
    """The correction across the face and about the vertical, and the heights of the shelves.

    ``tag_points``: (N, 4) tags as measured with the believed pose, metres in the face frame, and their scores; ``places``: the
    bins of the face; ``about_x_m``: where along the face the robot stands. What nothing was seen of stays as it was, with the
    prior's uncertainty.
    """
    line = _front_line(tag_points[:, 0] - about_x_m, tag_points[:, 1], tag_points[:, 3])
    turn = Alignment(gondola_id, about_x_m, 0.0, -line.y0_m, -math.atan(line.slope), PRIOR_M, line.sigma_m, line.sigma_rad)
    near = [p for p in places if p.x1_m > about_x_m - NEAR_M and p.x0_m < about_x_m + NEAR_M]
    shelves = _shelves(turn, tag_points[:, :3], near)
    return replace(_rounded(turn), shelves=tuple(sorted(shelves.items())))


def doubt(plane: Alignment, tag_points: Array, places: Sequence[BinPlace]) -> str:
    """Why a capture cannot be where it is believed to be, or an empty text.

    A localisation that is much further off than localisations are, or tags at heights at which no shelf is: the pose is an old
    one, the calibration wrong, or the layout another store's. ``tag_points`` as for `align_plane`.
    """
    if len(tag_points) < DOUBT_TAGS:
        return ""
    if abs(plane.dy_m) > DOUBT_M:
        return f"its price tags lie {abs(plane.dy_m):.2f} m from the shelf's front; an old pose, or a wrong calibration?"
    away = np.abs(plane.apply(tag_points[:, :3])[:, 1] + TAG_BEFORE_M)
    if np.mean(away < DOUBT_PLANE_M) < 0.5:
        return "its price tags do not lie in the shelf's front plane; an old pose, or a wrong calibration?"
    near = [p.z0_m for p in places if p.x1_m > plane.about_x_m - NEAR_M and p.x0_m < plane.about_x_m + NEAR_M]
    if near:
        off = [min(abs(float(z) + TAG_BELOW_M - s) for s in near) for z in tag_points[:, 2]]
        if sum(o < DOUBT_HEIGHT_M for o in off) < len(off) / 2:
            return "most of its price tags hang where the layout has no shelf; a wrong calibration, or another layout?"
    return ""


def align_along(
    plane: Alignment,
    products: Sequence[Observation],
    places: Sequence[BinPlace],
    planogram: Planogram,
    catalogue: Catalogue,
) -> Alignment:
    """``plane`` with the correction along the face. ``products``: as measured, with ``plane`` applied to them."""
    near = [p for p in places if p.x1_m > plane.about_x_m - NEAR_M and p.x0_m < plane.about_x_m + NEAR_M]
    dx, sigma = _along(products, on_shelves(near, dict(plane.shelves)), planogram, catalogue)
    return _rounded(replace(plane, dx_m=dx, sigma_x_m=sigma))


def _rounded(a: Alignment) -> Alignment:
    """To a hundredth of a millimetre and of a millirad: the same on every machine, and short."""
    names = ("dx_m", "dy_m", "yaw_rad", "sigma_x_m", "sigma_y_m", "sigma_yaw_rad")
    return replace(a, **{n: round(getattr(a, n), 5) for n in names})


def _front_line(x: Array, y: Array, weight: Array) -> _Line:
    """y = y0 + slope * x of the front plane as measured, from tags, with the prior; robust."""
    prior = np.diag([1 / PRIOR_M**2, 1 / PRIOR_RAD**2])
    y = y + TAG_BEFORE_M
    A = np.stack([np.ones_like(x), x], axis=-1)
    # From the median: a robust fit must begin near the truth.
    value = np.array([float(np.median(y)) if len(y) else 0.0, 0.0])
    information = prior
    for _ in range(12):
        r = (y - A @ value) / TAG_DEPTH_M
        w = weight * np.where(np.abs(r) < 4.0, (1 - (r / 4.0) ** 2) ** 2, 0.0) / TAG_DEPTH_M**2
        information = A.T @ (w[:, None] * A) + prior
        value = np.linalg.solve(information, A.T @ (w * y))
    s = np.sqrt(np.diag(np.linalg.inv(information)))
    return _Line(float(value[0]), float(value[1]), float(s[0]), float(s[1]))


def _shelves(turn: Alignment, tags: Array, places: Sequence[BinPlace]) -> dict[str, float]:
    """How far each shelf's tags hang from where they should, metres upwards, drawn towards none; by shelf id."""
    spans: dict[str, tuple[float, float, float]] = {}
    for p in places:
        x0, x1, z = spans.get(p.shelf_id, (math.inf, -math.inf, p.z0_m))
        spans[p.shelf_id] = (min(x0, p.x0_m), max(x1, p.x1_m), z)
    found: dict[str, list[float]] = {}
    for point in turn.apply(tags):
        of = [(abs(point[2] + TAG_BELOW_M - z), s) for s, (x0, x1, z) in spans.items() if x0 - 0.05 <= point[0] < x1 + 0.05]
        if of and min(of)[0] < SHELF_GATE_M:
            shelf = min(of)[1]
            found.setdefault(shelf, []).append(float(point[2]) + TAG_BELOW_M - spans[shelf][2])
    out = {}
    for shelf, values in found.items():
        precision = len(values) / TAG_HEIGHT_M**2
        out[shelf] = round(float(np.median(values)) * precision / (precision + 1 / SHELF_PRIOR_M**2), 4)
    return out


def _along(
    products: Sequence[Observation],
    places: Sequence[BinPlace],
    planogram: Planogram,
    catalogue: Catalogue,
) -> tuple[float, float]:
    """The shift along the face that brings most products to a column planned for them, and its standard deviation."""
    columns = _columns(places, planogram, catalogue)
    votes: list[tuple[Array, Array]] = []
    for o in products:
        x, _, z = o.face_m
        offsets, weights = [], []
        for c in o.candidates:
            for centre, foot, width in columns.get(c.sku, ()):
                off = z - o.size_m[1] / 2 - foot
                if abs(off) < FOOT_M and abs(centre - x) < REACH_M and abs(o.size_m[0] - width) < WIDTH_SHARE * width + 0.006:
                    offsets.append(centre - x)
                    weights.append(c.score)
        if offsets:
            w = np.array(weights) * o.score * math.cos(o.view_angle_rad) ** 2 * min(1.0, 0.2 + o.depth_confidence)
            votes.append((np.array(offsets), w))
    if len(votes) < LEAST_VOTES:
        return 0.0, PRIOR_M
    grid = np.arange(-REACH_M, REACH_M + STEP_M / 2, STEP_M)
    height = _height(votes)
    values = np.array([height(d) for d in grid])
    best = int(np.argmax(values))
    away = np.abs(grid - grid[best]) > SUMMIT_M
    peaks = away & (values >= np.roll(values, 1)) & (values >= np.roll(values, -1))
    if peaks.any() and values[peaks].max() > SUMMIT_SHARE * values[best]:
        return 0.0, PRIOR_M
    return _summit(votes, float(grid[best]))


def _columns(
    places: Sequence[BinPlace], planogram: Planogram, catalogue: Catalogue
) -> dict[str, list[tuple[float, float, float]]]:
    """Planned columns by SKU: (middle along the face, foot of each row, item width), metres."""
    out: dict[str, list[tuple[float, float, float]]] = {}
    for p in places:
        line = planogram[p.bin_id]
        product = catalogue[line.sku]
        pitch = (p.x1_m - p.x0_m) / line.facings_wide
        for column in range(line.facings_wide):
            for row in range(line.facings_high):
                x, foot = p.x0_m + (column + 0.5) * pitch, p.z0_m + row * product.height_m
                out.setdefault(line.sku, []).append((x, foot, product.width_m))
    return out


def _height(votes: Sequence[tuple[Array, Array]]) -> Callable[[float], float]:
    """How much speaks for a shift: votes within reach of it and the prior, as a share of all votes."""
    total = sum(float(w.max()) for _, w in votes)
    offsets, weights = np.concatenate([o for o, _ in votes]), np.concatenate([w for _, w in votes])
    starts = np.cumsum([0, *(len(o) for o, _ in votes[:-1])])

    def height(d: float) -> float:
        # The best of each product's votes.
        got = float(np.maximum.reduceat(weights * np.exp(-0.5 * ((offsets - d) / COLUMN_M) ** 2), starts).sum())
        return got / total * math.exp(-0.25 * (d / PRIOR_M) ** 2 / max(4, len(votes)) * 4)

    return height


def _summit(votes: Sequence[tuple[Array, Array]], start: float) -> tuple[float, float]:
    d = start
    weight = 0.0
    for _ in range(20):
        near = [(float(o[n]), float(w[n])) for o, w in votes for n in [int(np.argmin(np.abs(o - d)))]]
        off: NDArray[np.float64] = np.array([o for o, _ in near])
        w = np.array([w for _, w in near]) * np.exp(-0.5 * ((off - d) / COLUMN_M) ** 2)
        weight = float(w.sum())
        d = float((w @ off) / (weight + COLUMN_M**2 / PRIOR_M**2))
    return d, math.sqrt(1 / (weight / COLUMN_M**2 + 1 / PRIOR_M**2))
