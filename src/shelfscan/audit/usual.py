"""What is usual in a store of its own catalogue, planogram and pictures, and which product's size breaks with it.

Three rules that a store keeps without writing them down, each taken from all its products, robustly (quantiles, and for
pictures a fit that outliers do not bend); where a store keeps none, nothing is said by it:

- *columns* are as wide as the goods and a little air. A column much wider or narrower was planned with another width;
- *rows*: as many as the shelf holds. Rows that can't stand on the shelf, or leave room for more, were planned with another
  depth;
- *pictures* of the gallery are cut close around the product, so that they are as high for their width as it is, also where it
  is sold out; they may show a little of its top and of its side, by the same shares all over a gallery. A picture with other
  proportions says that height or width is wrong, and the column which.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import least_squares

from shelfscan.model.catalogue import Catalogue, Product
from shelfscan.model.planogram import Planogram
from shelfscan.model.store import BinPlace

#: A side is told to be wrong when it is off by more than this; what is off by less changes no count.
WRONG_BY = 0.19
#: A store's usual range, widened by this: column width over item width, rows of goods that would still fit, and a picture's
#: proportions over the catalogue's (beyond twice their spread).
PITCH_SLACK, ROWS_SLACK, PICTURE_SLACK = 0.06, 0.25, 0.08
#: Air between two rows.
AIR_M = 0.004
#: A store plans by one rule where the middle nine tenths of its bins differ by no more than this, and cuts its pictures by one
#: where they spread by no more (median absolute deviation, as a standard one).
RULE_PITCH, RULE_ROWS, RULE_PICTURE = 0.25, 1.6, 0.06
#: What a right size's picture differs by from the gallery's rule; what differs by much more has no say in it.
PICTURE_SIGMA = 0.03
#: Of a top and a side pictures show about so much, upwards or downwards.
SHOWN_SIGMA = 0.1
#: Fewer bins or products than this show no rule.
LEAST_CASES = 20
#: How sure: a plan or a picture alone, boxes alone, two that agree.
ALONE, SEEN, BOTH = 0.8, 0.85, 0.95

Range = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Pictures:
    """How high a gallery's pictures are for their width, by the height over width of what they show: ``front``, more by ``top``
    for each time that it is as deep as high, and by ``side`` for each time that it is as deep as wide. ``low`` to ``high``: the
    usual range of what is left."""

    front: float
    top: float
    side: float
    low: float
    high: float

    def times(self, shape: float, product: Product) -> float:
        """How many times as high for its width a product looks as the catalogue says; ``shape``: its picture's height over
        width."""
        said = max(1e-3, product.height_m), max(1e-3, product.width_m)
        usual = self.front + self.top * product.depth_m / said[0] + self.side * product.depth_m / said[1]
        return shape / (said[0] / said[1]) / max(0.1, usual)


@dataclass(frozen=True, slots=True)
class Usual:
    """What is usual in a store: (low, middle, high) of column width over item width and of rows that would still fit, and how
    its pictures are cut.

    None where the store keeps no rule that could be seen.
    """

    pitch: Range | None
    rows: Range | None
    pictures: Pictures | None = None


@dataclass(frozen=True, slots=True)
class WrongSize:
    """One side of a SKU that contradicts what is seen or planned. ``side``: ``width_m``, ``height_m`` or ``depth_m``."""

    sku: str
    side: str
    said_m: float
    likely_m: float
    confidence: float


def usual_of(
    places: Iterable[BinPlace], planogram: Planogram, catalogue: Catalogue, shapes: Mapping[str, float] | None = None
) -> Usual:
    """How a store plans, from all its bins; ``shapes``: height over width of its products' pictures, by SKU."""
    pitches, rows = [], []
    for place in places:
        line = planogram[place.bin_id]
        product = catalogue[line.sku]
        pitches.append((place.x1_m - place.x0_m) / line.facings_wide / max(1e-3, product.width_m))
        rows.append(place.depth_m / (product.depth_m + AIR_M) - line.facings_deep)
    shown = [(s, catalogue[sku]) for sku, s in (shapes or {}).items() if sku in catalogue]
    return Usual(_range(pitches, RULE_PITCH, PITCH_SLACK), _range(rows, RULE_ROWS, ROWS_SLACK), _pictures(shown))


def _pictures(shown: Sequence[tuple[float, Product]]) -> Pictures | None:
    """A gallery's rule, by robust least squares over its products (Cauchy's loss: a wrong size is far from any rule)."""
    if len(shown) < LEAST_CASES:
        return None
    rule = Pictures(1.0, 0.0, 0.0, 0.0, 0.0)
    y = np.array([rule.times(s, p) for s, p in shown])
    X = np.array([(1.0, p.depth_m / max(1e-3, p.height_m), p.depth_m / max(1e-3, p.width_m)) for _, p in shown])
    # No more of tops and sides than pictures show, or a few products of odd proportions would make the rule theirs.
    weight = PICTURE_SIGMA / SHOWN_SIGMA
    X, y = np.vstack([X, (0.0, weight, 0.0), (0.0, 0.0, weight)]), np.append(y, (0.0, 0.0))
    start = np.array([float(np.median(y)), 0.0, 0.0])
    fit = least_squares(lambda b: X @ b - y, start, lambda b: X, loss="cauchy", f_scale=PICTURE_SIGMA)
    front, top, side = (float(v) for v in fit.x)
    rule = Pictures(front, top, side, 0.0, 0.0)
    left = np.array([rule.times(s, p) for s, p in shown])
    middle = float(np.median(left))
    spread = 1.4826 * float(np.median(np.abs(left - middle)))
    reach = 2 * spread + PICTURE_SLACK
    return replace(rule, low=middle - reach, high=middle + reach) if spread <= RULE_PICTURE else None


def by_column(product: Product, place: BinPlace, wide: int, usual: Usual) -> float | None:
    """How many times as wide a product is as the catalogue says, by its columns; None where they are as usual."""
    if usual.pitch is None:
        return None
    pitch = (place.x1_m - place.x0_m) / wide / product.width_m
    low, middle, high = usual.pitch
    return pitch / middle if not low <= pitch <= high else None


def by_rows(product: Product, place: BinPlace, deep: int, usual: Usual) -> WrongSize | None:
    """The depth that a bin was planned with, where it is not the catalogue's."""
    rows = place.depth_m / (product.depth_m + AIR_M) - deep
    middle = 0.5
    if usual.rows is not None:
        low, middle, high = usual.rows
        if low <= rows <= high:
            return None
    elif rows >= -0.05:
        return None
    likely = place.depth_m / (deep + middle) - AIR_M
    if abs(likely / product.depth_m - 1) < WRONG_BY / 2:
        return None
    return WrongSize(product.sku, "depth_m", product.depth_m, round(likely, 3), ALONE)


def by_picture(product: Product, place: BinPlace, wide: int, shape: float | None, usual: Usual) -> WrongSize | None:
    """The height or width that contradicts the proportions of a product's picture, ``shape`` high for its width.

    Which of them, a column says that is planned by the store's rule: where it is as wide as usual the width is right.
    """
    if shape is None or usual.pictures is None or usual.pitch is None:
        return None
    times = usual.pictures.times(shape, product)
    if usual.pictures.low <= times <= usual.pictures.high:
        return None
    wider = by_column(product, place, wide, usual)
    if wider is None:
        return WrongSize(product.sku, "height_m", product.height_m, round(product.height_m * times, 3), SEEN)
    if abs(wider * times - 1) <= WRONG_BY:
        return WrongSize(product.sku, "width_m", product.width_m, round(product.width_m * wider, 3), BOTH)
    return None


def as_pictured(product: Product, place: BinPlace, wide: int, shape: float | None, usual: Usual) -> bool:
    """Whether a product's picture and column both bear its height out."""
    if shape is None or usual.pictures is None or usual.pitch is None or by_column(product, place, wide, usual) is not None:
        return False
    return abs(usual.pictures.times(shape, product) - 1) < WRONG_BY / 2


def _range(values: Sequence[float], most: float, slack: float) -> Range | None:
    if len(values) < LEAST_CASES:
        return None
    low, middle, high = (float(v) for v in np.quantile(values, (0.05, 0.5, 0.95)))
    return (low - slack, middle, high + slack) if high - low <= most else None
