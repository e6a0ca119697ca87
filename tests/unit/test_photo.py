"""Rows and runs of facings in plain photographs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfscan.cli.annotate import colour_of, draw_audit
from shelfscan.model.detections import Candidate, Detections
from shelfscan.perception.photo import (
    SAME_BOX,
    PhotoDetector,
    audit_photo,
    drop_nested,
    facings_per_sku,
    find_products,
    fused,
    rows_of,
)


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


def test_a_tie_counts_for_the_first_and_shows_the_other() -> None:
    boxes = shelf_rows(1, 4, 0.0)
    facings, runs = audit_photo(
        Detections(boxes, np.ones(4, np.float32), np.zeros(4, np.int64)),
        [
            (Candidate("a", 0.90), Candidate("b", 0.50)),
            (Candidate("a", 0.80), Candidate("b", 0.78)),
            (Candidate("a", 0.70), Candidate("b", 0.69)),
            (Candidate("b", 0.40), Candidate("a", 0.39)),
        ],
        unknown_below=0.5,
    )
    assert [(f.sku, f.tied_with) for f in facings] == [("a", ""), ("a", "b"), ("a", "b"), ("", "")], "an unknown is no tie"
    assert [(r.sku, r.facings, r.tied_with) for r in runs] == [("a", 3, ("b",)), ("", 1, ())]
    assert facings_per_sku(facings) == {"a": 3, "": 1}
    plain = np.full((200, 300, 3), 255, np.uint8)
    drawn = draw_audit(plain, facings, runs)
    for name, there in (("a", True), ("b", True), ("c", False)):
        assert (drawn == colour_of(name)).all(axis=2).any() == there


def test_an_empty_photograph_has_no_rows() -> None:
    assert audit_photo(Detections.empty(), [], 0.5) == ([], [])


def boxes_of(*rows: tuple[float, float, float, float, float]) -> Detections:
    """Products from (x0, y0, x1, y1, score)."""
    data = np.array(rows, np.float32).reshape(-1, 5)
    return Detections(data[:, :4], data[:, 4], np.zeros(len(data), np.int64))


def test_a_box_in_another_goes_whichever_is_surer() -> None:
    pack, bottle = (0, 0, 100, 100, 0.8), (10, 10, 40, 90, 0.6)
    beside = (95, 0, 200, 100, 0.5)
    assert drop_nested(boxes_of(pack, bottle, beside)).scores.tolist() == pytest.approx([0.8, 0.5])
    sure_bottle = (*bottle[:4], 0.9)
    assert drop_nested(boxes_of(pack, sure_bottle)).scores.tolist() == pytest.approx([0.9])
    assert len(drop_nested(Detections.empty())) == 0


def test_what_looks_agree_on_is_surer_than_what_one_of_them_saw() -> None:
    first = boxes_of((0, 0, 50, 100, 0.5), (100, 0, 150, 100, 0.4), (200, 0, 250, 100, 0.9))
    second = boxes_of((2, 1, 52, 101, 0.6), (300, 0, 400, 200, 0.7))
    found = fused([first, second])
    assert found.boxes_px[:, 0].tolist() == pytest.approx([2 * 0.6 / 1.1, 200, 300, 100])
    assert found.scores.tolist() == pytest.approx([0.55, 0.45, 0.35, 0.2])
    assert len(fused([Detections.empty(), Detections.empty()])) == 0
    assert fused([first]).scores.tolist() == pytest.approx([0.9, 0.5, 0.4]), "one look alone is as sure as it was"


BOX = st.tuples(st.integers(0, 300), st.integers(0, 300), st.integers(8, 90), st.integers(8, 90), st.floats(0.05, 1.0))


@given(st.lists(st.lists(BOX, max_size=12), min_size=1, max_size=3))
def test_fusing_never_makes_a_score_or_a_second_box_of_one_thing(looks: list[list[tuple[int, int, int, int, float]]]) -> None:
    given_looks = [
        boxes_of(*((x, y, x + w, y + h, s) for x, y, w, h, s in look)) if look else Detections.empty() for look in looks
    ]
    found = fused(given_looks)
    assert len(found) <= sum(len(v) for v in given_looks)
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    best = max((float(v.scores.max()) for v in given_looks if len(v)), default=0.0)
    assert float(found.scores.max(initial=0.0)) <= best + 1e-6
    for i, a in enumerate(found.boxes_px):
        for b in found.boxes_px[i + 1 :]:
            w, h = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
            inter = max(w, 0) * max(h, 0)
            union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - inter
            assert inter / union < SAME_BOX + 1e-5
    again = fused([found])
    assert again.boxes_px == pytest.approx(found.boxes_px, abs=1e-3), "fusing what is fused changes nothing"


class LargeProductsOnlyWhenReduced:
    """A detector with a limited range: it sees the one product only while it is at most 250 px wide."""

    description = "limited"

    def detect(self, picture: np.ndarray) -> Detections:
        columns = np.flatnonzero((picture[..., 0] > 128).any(axis=0))
        rows = np.flatnonzero((picture[..., 0] > 128).any(axis=1))
        if len(columns) == 0 or len(columns) > 250:
            return Detections.empty()
        return boxes_of((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1, 0.9))


def test_a_product_too_large_for_the_detector_is_found_in_the_picture_s_own_pixels() -> None:
    picture = np.zeros((2000, 1500, 3), np.uint8)
    picture[500:1500, 400:900] = 255
    (box,) = find_products(PhotoDetector(LargeProductsOnlyWhenReduced(), (0.3, 0.3, 0.3)), picture).boxes_px.tolist()
    assert box == pytest.approx([400, 500, 900, 1500], abs=4)
