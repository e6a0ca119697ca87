"""What stands before the shelf is found, however plain; what is merely bare is not taken for it."""

from __future__ import annotations

import numpy as np
import pytest

from shelfscan.bundle import load_bundle
from shelfscan.model.imaging import Gray, Head
from shelfscan.paths import shared_file
from shelfscan.perception.before import SCALE, foreground

SHELF_M = 0.9
#: Rows and columns of a stretch of the left picture.
PATCH = (slice(250, 450), slice(500, 800))


@pytest.fixture(scope="module")
def head() -> Head:
    return load_bundle(shared_file("maps", "demo")).robot.rig.heads[0]


def pair(head: Head, patch_m: float | None) -> tuple[Gray, Gray]:
    """A textured wall at the shelf's distance; in the patch something plain at a distance, or (None) a plain wall."""
    i = head.left.intrinsics
    f_b = i.fx_px * head.baseline_m
    rng = np.random.default_rng(1)
    wide = rng.integers(60, 200, (i.height_px // 4, i.width_px // 2), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    left, right = (wide[:, s : s + i.width_px].copy() for s in (0, round(f_b / SHELF_M)))
    rows, cols = PATCH
    shift = round(f_b / (patch_m or SHELF_M))
    # Plain, but lit from one side as everything is.
    plain = np.linspace(110, 140, cols.stop - cols.start).astype(np.uint8)
    left[rows, cols] = plain
    right[rows, cols.start - shift : cols.stop - shift] = plain
    noise = [rng.normal(0.0, 1.0, left.shape) for _ in range(2)]
    left, right = (np.clip(p + n, 0, 255).astype(np.uint8) for p, n in zip((left, right), noise, strict=True))
    return left, right


def inside(depth: np.ndarray) -> np.ndarray:
    """The patch without its border."""
    rows, cols = PATCH
    return depth[rows.start // SCALE + 12 : rows.stop // SCALE - 12, cols.start // SCALE + 12 : cols.stop // SCALE - 12]


@pytest.mark.parametrize("distance_m", [0.35, 0.45, 0.6])
def test_a_plain_thing_before_the_shelf_is_where_it_is(head: Head, distance_m: float) -> None:
    depth = foreground(head, *pair(head, distance_m), 1.5)
    assert depth.shape == tuple(n // SCALE for n in pair(head, None)[0].shape)
    patch = inside(depth)
    assert np.mean(patch < SHELF_M - 0.06) > 0.75
    assert np.nanmedian(patch) == pytest.approx(distance_m, abs=0.04)
    # The wall around it stays where it is.
    assert np.nanmedian(depth[: PATCH[0].start // SCALE - 20, 300:]) == pytest.approx(SHELF_M, abs=0.02)


def test_a_bare_stretch_of_the_shelf_stays_at_the_shelf(head: Head) -> None:
    patch = inside(foreground(head, *pair(head, None), 1.5))
    assert np.nanmin(patch) > SHELF_M - 0.06
