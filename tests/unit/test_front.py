"""The fused front surface: what it says of a place, and that the order of looks does not matter."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfscan.model.catalogue import Product
from shelfscan.model.front import FaceFront, nearest_run, place_surface, seen_top
from shelfscan.model.scan import UNKNOWN_MM, FrontGrid

BOX = Product("S", "", "box", "b", "c", 0.10, 0.08, 0.20, 1.0)


def face(depth_m: float | np.ndarray) -> FaceFront:
    return FaceFront(np.full((100, 120), depth_m, np.float32) if np.isscalar(depth_m) else np.asarray(depth_m, np.float32))


def test_a_flat_front_is_found_at_its_depth() -> None:
    depth, known = place_surface(face(0.123), BOX, 0.5, 0.4)
    assert depth == pytest.approx(0.123, abs=1e-6)
    assert known == 1.0


def test_nothing_measured_is_unknown_not_far() -> None:
    depth, known = place_surface(face(math.nan), BOX, 0.5, 0.4)
    assert math.isnan(depth)
    assert known == 0.0


def test_scattered_matches_are_no_surface() -> None:
    rng = np.random.default_rng(1)
    depth, known = place_surface(face(rng.uniform(0.0, 0.45, (100, 120))), BOX, 0.5, 0.4)
    assert math.isnan(depth)
    assert known == 1.0


def test_of_two_surfaces_the_nearer_counts_when_it_fills_half() -> None:
    grid = np.full((100, 120), 0.44)
    grid[20:25] = 0.02
    depth, _ = place_surface(face(grid), BOX, 0.5, 0.4)
    assert depth == pytest.approx(0.02, abs=1e-6)


def test_a_sliver_of_the_neighbour_does_not_close_a_gap() -> None:
    grid = np.full((100, 120), 0.44)
    grid[:, 52:54] = 0.02
    depth, _ = place_surface(face(grid), BOX, 0.5, 0.4)
    assert depth == pytest.approx(0.44, abs=1e-6)


def grid(eye_x_m: float, depth_mm: int, column: int = 0, unknown: bool = False) -> FrontGrid:
    values = np.full((10, 40), UNKNOWN_MM if unknown else depth_mm, np.int16)
    return FrontGrid("low", "G", column, 0, eye_x_m, 0.1, values)


def test_the_squarest_look_wins_whatever_the_order() -> None:
    looks = [grid(0.1, 100), grid(0.3, 200), grid(0.2, 300, unknown=True), grid(0.9, 400, column=-5)]
    fused = [FaceFront.fuse(order, 0.5, 0.3).depth_m for order in permutations(looks)]
    for other in fused[1:]:
        np.testing.assert_array_equal(fused[0], other)
    assert fused[0][2, 5] == pytest.approx(0.1)
    assert fused[0][2, 32] == pytest.approx(0.2)


def test_looks_that_agree_outvote_a_squarer_one() -> None:
    """A camera below a board that grazes its edge measures something between the edge and the goods."""
    looks = [grid(0.2, 100), grid(0.3, 271), grid(0.35, 262)]
    for order in permutations(looks):
        fused = FaceFront.fuse(order, 0.5, 0.3).depth_m
        # The squarer of those that agree.
        assert fused[2, 20] == pytest.approx(0.271)
    # Far aside they count for less than the one look that is square.
    assert FaceFront.fuse([grid(0.2, 100), grid(1.5, 271), grid(1.6, 262)], 0.5, 0.3).depth_m[2, 20] == pytest.approx(0.1)


def packs(top_rows: int, behind_m: float) -> FaceFront:
    """Items with their front 5 cm behind the plane, their tops behind that, and above them what is behind."""
    depth = np.full((100, 120), behind_m, np.float32)
    depth[20 : 20 + top_rows] = 0.05
    depth[20 + top_rows - 1] = 0.11
    return face(depth)


@pytest.mark.parametrize("rows", [3, 5, 8, 12])
def test_an_item_ends_where_what_is_behind_shows(rows: int) -> None:
    assert seen_top(packs(rows, 0.44), BOX, 0.5, 0.4, 0.8, 0.05) == pytest.approx(rows * 0.02)


def test_no_end_is_seen_in_the_dark_or_up_to_the_board_above() -> None:
    assert seen_top(packs(8, math.nan), BOX, 0.5, 0.4, 0.8, 0.05) is None
    assert seen_top(packs(40, 0.44), BOX, 0.5, 0.4, 0.8, 0.05) is None
    # A gap in what is measured hides the end.
    gap = packs(8, 0.44).depth_m.copy()
    gap[28:30] = math.nan
    assert seen_top(face(gap), BOX, 0.5, 0.4, 0.8, 0.05) is None
    # Something nearer above it is not what is behind.
    assert seen_top(packs(8, -0.01), BOX, 0.5, 0.4, 0.8, 0.05) is None


def test_a_grid_comes_back_from_json_as_it_was() -> None:
    g = grid(0.25, 123, column=7)
    assert FrontGrid.from_json(g.to_json()) == g


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40), st.sampled_from([0.3, 0.5, 1.0]))
def test_the_nearest_run_is_the_median_of_the_first_depths_that_agree(depths: list[float], share: float) -> None:
    ordered = np.sort(np.array(depths, np.float32))
    need = max(1, math.ceil(share * len(ordered)))
    runs = [ordered[n : n + need] for n in range(len(ordered) - need + 1)]
    agree = [r for r in runs if r[-1] - r[0] < np.float32(0.035)]
    found = nearest_run(np.array(depths, np.float32), share, 0.035)
    assert found == (float(np.median(agree[0])) if agree else None)
