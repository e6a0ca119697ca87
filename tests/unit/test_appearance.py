"""Colour of packs: the layout's length, and what is compared where one crop lies on another."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from fakes.packages import fronts, warp
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfscan.perception.appearance import LAID_PX, LAYOUT_DIM, colour_layout, laid_copy, laid_on
from shelfscan.perception.local_features import SIDE_PX

IDENTITY = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
NOTHING = (0.0, 0.0, 0.0)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 999))
def test_a_layout_has_length_one_whatever_the_size(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    crop = cv2.resize(rng.integers(0, 256, (3, 3, 3), np.uint8), (width, height))
    layout = colour_layout(crop)
    assert layout.shape == (LAYOUT_DIM,) and layout.dtype == np.float32 and (layout >= 0).all()
    assert float(np.linalg.norm(layout)) == pytest.approx(1, abs=1e-4)


@settings(deadline=None)
@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_every_colour_has_a_place(rgb: tuple[int, int, int]) -> None:
    small, large = (np.full((*s, 3), rgb, np.uint8) for s in ((3, 2), (200, 90)))
    assert float(colour_layout(small) @ colour_layout(large)) == pytest.approx(1, abs=1e-4)


def test_where_a_colour_lies_matters() -> None:
    top_red = np.zeros((90, 60, 3), np.uint8)
    top_red[:45, :, 0], top_red[45:, :, 2] = 200, 200
    bottom_red = np.ascontiguousarray(top_red[::-1])
    assert float(colour_layout(top_red) @ colour_layout(bottom_red)) == pytest.approx(0, abs=1e-4)


def test_a_pack_s_colours_are_nearer_to_its_copy_s_than_to_another_s() -> None:
    packs = fronts(8)
    of = np.stack([colour_layout(p) for p in packs])
    for i, pack in enumerate(packs):
        h, w = pack.shape[:2]
        seen = colour_layout(cv2.resize(pack, (w // 3, h // 3), interpolation=cv2.INTER_AREA))
        assert int((of @ seen).argmax()) == i


@pytest.mark.parametrize(
    ("size", "expected"), [((200, 100), (96, 48)), ((10, 40), (24, 96)), ((1, 900), (1, 96)), ((1, 1), (96, 96))]
)
def test_copies_have_one_long_side(size: tuple[int, int], expected: tuple[int, int]) -> None:
    copy = laid_copy(np.full((*size, 3), 90, np.uint8))
    assert copy.shape == (*expected, 3) and max(copy.shape) == LAID_PX and copy.dtype == np.uint8


def test_a_pack_lies_on_itself_in_any_exposure_and_not_on_its_negative() -> None:
    for pack in fronts(6):
        copy = laid_copy(pack)
        assert laid_on(copy, copy, IDENTITY) == pytest.approx((1, 1, 1), abs=0.02)
        dark = laid_on(laid_copy((pack * 0.6).astype(np.uint8)), copy, IDENTITY)
        assert min(dark) > 0.9
        light, a, b = laid_on(laid_copy(255 - pack), copy, IDENTITY)
        assert light < 0 and a < 0 and b < 0


def test_a_turned_pack_lies_on_itself_by_its_transform() -> None:
    pack = fronts(3)[2]
    seen, m = warp(pack, 12, 0.8)
    back = cv2.invertAffineTransform(m)
    # From px of the one's SIDE_PX copy to those of the other's.
    theirs, mine = SIDE_PX / max(pack.shape[:2]), SIDE_PX / max(seen.shape[:2])
    affine = np.c_[back[:, :2] * theirs / mine, back[:, 2] * theirs].astype(np.float32)
    assert min(laid_on(laid_copy(seen), laid_copy(pack), affine)) > 0.9
    assert laid_on(laid_copy(seen), laid_copy(pack), IDENTITY)[0] < 0.9


@pytest.mark.parametrize(
    "affine",
    [
        [[0, 0, 5], [0, 0, 5]],  # everything in one place
        [[-1, 0, 448], [0, 1, 0]],  # mirrored
        [[1, 0, 9000], [0, 1, 0]],  # beside it
        [[90, 0, 0], [0, 90, 0]],  # hardly a pixel of it
        [[1, 1, 0], [1, 1, 0]],  # on a line
    ],
)
def test_where_they_do_not_cover_each_other_nothing_is_said(affine: list[list[float]]) -> None:
    copy = laid_copy(fronts(1)[0])
    assert laid_on(copy, copy, np.array(affine, np.float32)) == NOTHING


def test_plain_crops_say_nothing() -> None:
    plain, pack = laid_copy(np.full((200, 120, 3), 70, np.uint8)), laid_copy(fronts(1)[0])
    for a, b in ((plain, plain), (plain, pack), (pack, plain)):
        assert laid_on(a, b, IDENTITY) == pytest.approx(NOTHING, abs=1e-3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=4, max_size=4), st.floats(-200, 200), st.floats(-200, 200), st.integers(0, 5))
def test_correlations_stay_in_their_range(linear: list[float], dx: float, dy: float, which: int) -> None:
    packs = fronts(6)
    affine = np.array([[linear[0], linear[1], dx], [linear[2], linear[3], dy]], np.float32)
    for value in laid_on(laid_copy(packs[which]), laid_copy(packs[which - 1]), affine):
        assert -1.0001 <= value <= 1.0001
