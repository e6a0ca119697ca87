"""A capture's pose corrected by what it shows: a random error comes back out, and what cannot be told is left alone."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfscan.model.catalogue import Product
from shelfscan.model.detections import Candidate
from shelfscan.model.geometry import Pose2D
from shelfscan.model.planogram import PlanogramLine
from shelfscan.model.scan import COVERAGE_COLUMNS, COVERAGE_ROWS, Alignment, BayScan, BinCoverage, FrontGrid, Observation
from shelfscan.model.store import Aisle, Bay, Bin, BinPlace, Gondola, PlacesAlong, Shelf, Store
from shelfscan.perception.align import PRIOR_M, TAG_BEFORE_M, TAG_BELOW_M, align_along, align_plane, doubt
from shelfscan.stock.register import BEYOND_M, corrections, coverage_moved, registered

#: Item widths that don't repeat, so that a row has one place only.
WIDTHS = (0.06, 0.11, 0.08, 0.14, 0.09, 0.07, 0.12, 0.1)
SKUS = tuple(f"S{n}" for n in range(len(WIDTHS)))
CATALOGUE = {s: Product(s, "4006381333931", s, "b", "c", w, 0.08, 0.2, 2.0) for s, w in zip(SKUS, WIDTHS, strict=True)}


def _store() -> Store:
    bins, x = [], 0.0
    for n, w in enumerate(WIDTHS):
        bins.append(Bin(f"b{n}", x, 2 * (w + 0.008)))
        x += 2 * (w + 0.008)
    shelves = tuple(
        Shelf(f"S{r}", 0.3 + 0.4 * r, 0.35, 0.45, tuple(Bin(f"{b.bin_id}r{r}", b.x_m, b.width_m) for b in bins))
        for r in range(2)
    )
    return Store("s", (Aisle("A", (Gondola("G", Pose2D(0.0, 1.0, 0.0), 0.5, 1.2, (Bay("B", 0.0, x, shelves),)),)),))


STORE = _store()
PLACES = list(STORE.places.values())
PLANOGRAM = {p.bin_id: PlanogramLine(p.bin_id, SKUS[n % len(SKUS)], 2, 1, 5) for n, p in enumerate(PLACES)}
MIDDLE = max(p.x1_m for p in PLACES) / 2


def tags(places: list, error: Alignment, rng: random.Random, outliers: int = 0) -> np.ndarray:
    """Tags as measured with a pose that is wrong by the inverse of ``error``."""
    true = np.array([[p.x0_m + 0.05, -TAG_BEFORE_M, p.z0_m - TAG_BELOW_M] for p in places])
    seen = np.linalg.solve(error.matrix()[:3, :3], (true - error.matrix()[:3, 3]).T).T
    seen += np.array([[rng.gauss(0, 0.002) for _ in range(3)] for _ in places])
    seen[:outliers, 1] += 0.15
    return np.hstack([seen, np.full((len(places), 1), 0.9)])


def products(error: Alignment, rng: random.Random, share: float = 0.8) -> list[Observation]:
    """Items in their planned columns, as measured with the plane part of the error already corrected."""
    out = []
    for n, p in enumerate(PLACES):
        line, product = PLANOGRAM[p.bin_id], CATALOGUE[PLANOGRAM[p.bin_id].sku]
        for c in range(2):
            if rng.random() > share:
                continue
            x = p.x0_m + (c + 0.5) * (p.x1_m - p.x0_m) / 2 - error.dx_m + rng.gauss(0, 0.003)
            out.append(look(f"{n}.{c}", (x, 0.014, p.z0_m + 0.1), (product.width_m, 0.2), line.sku))
    return out


def look(key: str, face: tuple[float, float, float], size: tuple[float, float], sku: str, head: str = "low") -> Observation:
    return Observation(key, head, "G", (0, 0, 9, 9), 0.9, (0, 0, 0), face, size, 0.9, 0.2, (Candidate(sku, 0.9),))


@settings(max_examples=40, deadline=None)
@given(
    dx=st.floats(-0.09, 0.09),
    dy=st.floats(-0.09, 0.09),
    yaw_deg=st.floats(-2.5, 2.5),
    seed=st.integers(0, 10_000),
    outliers=st.integers(0, 2),
)
def test_a_random_error_of_the_pose_comes_back_out(dx: float, dy: float, yaw_deg: float, seed: int, outliers: int) -> None:
    rng = random.Random(seed)
    error = Alignment("G", MIDDLE, dx, dy, math.radians(yaw_deg), 0, 0, 0)
    plane = align_plane(
        "G", MIDDLE, tags(PLACES, Alignment("G", MIDDLE, 0.0, dy, math.radians(yaw_deg), 0, 0, 0), rng, outliers), PLACES
    )
    assert abs(plane.dy_m - dy) < 0.006
    assert abs(plane.yaw_rad - math.radians(yaw_deg)) < math.radians(0.6)
    found = align_along(plane, products(error, rng), PLACES, PLANOGRAM, CATALOGUE)
    assert abs(found.dx_m - dx) < 0.006
    assert found.sigma_x_m < 0.01


def test_without_tags_or_products_nothing_is_corrected_and_that_is_said() -> None:
    plane = align_plane("G", MIDDLE, np.zeros((0, 4)), PLACES)
    along = align_along(plane, [], PLACES, PLANOGRAM, CATALOGUE)
    assert (along.dx_m, along.dy_m, along.yaw_rad) == (0, 0, 0)
    assert along.sigma_x_m == along.sigma_y_m == PRIOR_M


@pytest.mark.parametrize(
    ("dy", "yaw_deg", "up", "word"),
    [(0, 0, 0, ""), (0.09, 2.5, 0.03, ""), (0.4, 0, 0, "0.40 m"), (0, 12, 0, "front plane"), (0, 0, 0.2, "no shelf")],
)
def test_a_pose_that_cannot_be_is_doubted_with_the_reason(dy: float, yaw_deg: float, up: float, word: str) -> None:
    points = tags(PLACES, Alignment("G", MIDDLE, 0.0, dy, math.radians(yaw_deg), 0, 0, 0), random.Random(3))
    points[:, 2] += up
    said = doubt(align_plane("G", MIDDLE, points, PLACES), points, PLACES)
    assert (word in said) if word else not said
    assert not doubt(align_plane("G", MIDDLE, points[:4], PLACES), points[:4], PLACES), "four tags prove nothing"


def test_a_row_that_repeats_settles_nothing_along_the_face() -> None:
    """One SKU in columns 8 cm apart: a facing further is as good."""
    shelf = Shelf("S0", 0.3, 0.35, 0.45, (Bin("b", 0.0, 2.4),))
    store = Store("s", (Aisle("A", (Gondola("G", Pose2D(0, 1, 0), 0.5, 1.2, (Bay("B", 0, 2.4, (shelf,)),)),)),))
    places = list(store.places.values())
    plan = {"b": PlanogramLine("b", "S1", 20, 1, 5)}
    seen = [look(str(n), (0.06 + 0.12 * n + 0.05, 0.014, 0.4), (0.11, 0.2), "S1") for n in range(20)]
    found = align_along(align_plane("G", 1.2, np.zeros((0, 4)), places), seen, places, plan, CATALOGUE)
    assert found.dx_m == 0.0
    assert found.sigma_x_m == PRIOR_M


@settings(max_examples=30, deadline=None)
@given(up=st.floats(-0.04, 0.04), seed=st.integers(0, 1000))
def test_a_shelf_that_hangs_elsewhere_is_measured(up: float, seed: int) -> None:
    rng = random.Random(seed)
    points = tags(PLACES, Alignment("G", MIDDLE, 0, 0, 0, 0, 0, 0), rng)
    of_shelf = {p.shelf_id for p in PLACES}
    moved = min(of_shelf)
    points[[n for n, p in enumerate(PLACES) if p.shelf_id == moved], 2] += up
    heights = dict(align_plane("G", MIDDLE, points, PLACES).shelves)
    assert abs(heights[moved] - up) < 0.004
    assert all(abs(heights[s]) < 0.004 for s in of_shelf - {moved})


def scans(shifts: list[float], sigmas: list[float], rng: random.Random) -> list[BayScan]:
    """Captures along one row of items, each wrong along the face by what is given."""
    out = []
    for n, (shift, sigma) in enumerate(zip(shifts, sigmas, strict=True)):
        middle = 0.4 + 0.4 * n
        seen = []
        for k in range(40):
            x, sku = 0.11 * k + 0.02 * (k % 3), f"S{(k * k + k // 3) % 8}"
            if abs(x - middle) < 0.55:
                face = (x - shift + rng.gauss(0, 0.002), 0.014, 0.4)
                seen.append(look(f"c{n}/{k}", face, (0.09, 0.2), sku))
        front = FrontGrid("low", "G", 0, 0, middle, 0.8, np.full((3, 3), 12, np.int16))
        a = Alignment("G", middle, 0.0, 0.0, 0.0, sigma, 0.01, 0.01)
        out.append(BayScan("m", f"V{n:02d}", f"c{n}", n, ("B",), tuple(seen), (), (), (front,), (), {}, (), (a,)))
    return out


@settings(max_examples=25, deadline=None)
@given(bad=st.integers(1, 4), off=st.sampled_from([-0.14, -0.08, 0.07, 0.12]), seed=st.integers(0, 1000))
def test_a_capture_that_is_a_facing_off_yields_to_its_neighbours(bad: int, off: float, seed: int) -> None:
    shifts = [0.0] * 6
    shifts[bad] = off
    found = corrections(scans(shifts, [0.003] * 6, random.Random(seed)), "G")
    assert abs(found[bad] - off) < 0.015
    assert all(abs(d) < 0.009 for n, d in enumerate(found) if n != bad)


def test_captures_that_agree_are_left_as_they_are() -> None:
    made = scans([0.0] * 5, [0.003] * 5, random.Random(1))
    assert registered(made, "G", PLACES) == made


@given(st.integers(0, (1 << 128) - 1), st.integers(0, (1 << 128) - 1))
def test_coverage_that_is_not_moved_is_the_same(seen: int, blocked: int) -> None:
    blocked &= ~seen
    place = PLACES[0]
    row = [p for p in PLACES if p.shelf_id == place.shelf_id]
    moved = coverage_moved([BinCoverage(place.bin_id, seen, blocked)], row, 0.0)
    got = next((c for c in moved if c.bin_id == place.bin_id), BinCoverage(place.bin_id, 0, 0))
    assert (got.seen, got.blocked) == (seen, blocked)


def test_coverage_moves_into_the_next_bin_and_is_never_made_up() -> None:
    row = sorted((p for p in PLACES if p.shelf_id == PLACES[0].shelf_id), key=lambda p: p.x0_m)
    full = (1 << 128) - 1
    moved = {c.bin_id: c for c in coverage_moved([BinCoverage(row[2].bin_id, full, 0)], row, 0.06)}
    assert 0 < moved[row[3].bin_id].seen.bit_count() < 128
    assert moved[row[2].bin_id].seen.bit_count() < 128
    total = sum(
        c.seen.bit_count() / 128 * (row[n].x1_m - row[n].x0_m) for n in range(len(row)) for c in [moved.get(row[n].bin_id)] if c
    )
    assert total <= row[2].x1_m - row[2].x0_m + 1e-6


def by_cells(coverage: list[BinCoverage], places: list[BinPlace], d: float) -> dict[str, tuple[int, int]]:
    """`coverage_moved` word by word: every cell of every bin is asked for on its own."""
    of = {c.bin_id: c for c in coverage}

    def at(row: list[BinPlace], x: float) -> tuple[BinCoverage, int] | None:
        first, last = min(p.x0_m for p in row), max(p.x1_m for p in row)
        if first - BEYOND_M < x < last + BEYOND_M:
            x = min(max(x, first), last - 1e-6)
        for p in row:
            if p.x0_m <= x < p.x1_m and p.bin_id in of:
                return of[p.bin_id], int((x - p.x0_m) / (p.x1_m - p.x0_m) * COVERAGE_COLUMNS)
        return None

    out = {}
    for place in places:
        row = [p for p in places if p.shelf_id == place.shelf_id]
        step = (place.x1_m - place.x0_m) / COVERAGE_COLUMNS
        seen = blocked = 0
        for column in range(COVERAGE_COLUMNS):
            x = place.x0_m + column * step - d
            ends = [at(row, x + 0.02 * step), at(row, x + 0.98 * step)]
            for k in range(COVERAGE_ROWS):
                bit = 1 << (k * COVERAGE_COLUMNS + column)
                seen |= bit if all(c and c[0].seen >> (k * COVERAGE_COLUMNS + c[1]) & 1 for c in ends) else 0
                blocked |= bit if any(c and c[0].blocked >> (k * COVERAGE_COLUMNS + c[1]) & 1 for c in ends) else 0
        if seen or blocked:
            out[place.bin_id] = (seen, blocked & ~seen)
    return out


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, len(PLACES) - 1), min_size=1, max_size=4, unique=True), st.floats(-0.3, 0.3), st.randoms())
def test_coverage_is_moved_cell_by_cell(which: list[int], d: float, rng: random.Random) -> None:
    cells = COVERAGE_ROWS * COVERAGE_COLUMNS
    given_ = [BinCoverage(PLACES[n].bin_id, a := rng.getrandbits(cells), rng.getrandbits(cells) & ~a) for n in which]
    moved = {c.bin_id: (c.seen, c.blocked) for c in coverage_moved(given_, PLACES, d)}
    assert moved == by_cells(given_, list(PLACES), d)


@given(st.floats(-0.5, 5.0), st.sampled_from([0.0, 0.02, 0.035]))
def test_no_bin_near_a_place_is_left_out(x: float, beside: float) -> None:
    near = PlacesAlong(PLACES, beside).near(x)
    wanted = [p for p in PLACES if p.x0_m - beside <= x <= p.x1_m + beside]
    assert [p for p in near if p in wanted] == wanted, "all of them, in the order they were given"
    assert len(near) < len(PLACES)
