"""Rows and runs of facings in plain photographs."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shelfscan.model.detections import Candidate, Detections
from shelfscan.perception.photo import audit_photo, facings_per_sku, rows_of


def shelf_rows(rows: int, columns: int, slope: float) -> np.ndarray:
    boxes = []
    for r in range(rows):
        for c in range(columns):
            x, y = 20 + 60 * c, 50 + 150 * r + slope * 60 * c
            boxes.append([x, y, x + 50, y + 110])
    return np.array(boxes, np.float32)


@given(st.integers(1, 5), st.integers(1, 12), st.floats(-0.3, 0.3), st.randoms())
def test_rows_follow_slanted_shelves_in_any_order(rows: int, columns: int, slope: float, rng) -> None:
    boxes = shelf_rows(rows, columns, slope)
    order = list(range(len(boxes)))
    rng.shuffle(order)
    found = rows_of(boxes[order])
    expected = np.array(order) // columns
    assert (found == expected).all()


def test_a_gap_does_not_split_a_shelf() -> None:
    boxes = np.delete(shelf_rows(2, 10, 0.0), [3, 4, 5, 6], axis=0)
    assert rows_of(boxes).max() == 1


def test_runs_and_unknowns() -> None:
    boxes = shelf_rows(1, 4, 0.0)
    names = [("a", 0.9), ("a", 0.8), ("b", 0.2), ("a", 0.9)]
    facings, runs = audit_photo(
        Detections(boxes, np.ones(4, np.float32), np.zeros(4, np.int64)),
        [(Candidate(s, v),) for s, v in names],
        unknown_below=0.5,
    )
    assert [(r.sku, r.facings) for r in runs] == [("a", 2), ("", 1), ("a", 1)]
    assert facings_per_sku(facings) == {"a": 3, "": 1}


def test_an_empty_photograph_has_no_rows() -> None:
    assert audit_photo(Detections.empty(), [], 0.5) == ([], [])
