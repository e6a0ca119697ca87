"""Local features: found again on a copy seen otherwise, absent from what has none, and never an error for a size."""

from __future__ import annotations

import numpy as np
import pytest
from fakes.packages import families, fronts, warp
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfscan.model.imaging import Rgb
from shelfscan.perception.local_features import FIT_PX, NOTHING, SIDE_PX, local_features, shared

slow = settings(max_examples=12, deadline=None)


def in_normal(picture: Rgb) -> float:
    """Pixels of the picture to those of its `SIDE_PX` copy."""
    return SIDE_PX / max(picture.shape[:2])


@slow
@given(st.integers(0, 11), st.floats(-20, 20), st.floats(0.6, 1.4), st.floats(0.5, 1.1))
def test_a_pack_seen_otherwise_shares_its_places_where_they_are(which: int, turn: float, zoom: float, light: float) -> None:
    pack = fronts(12)[which]
    seen, true = warp(pack, turn, zoom, light)
    mine, theirs = local_features(seen), local_features(pack)
    (found,) = shared(mine, [theirs])
    assert found.places >= 12 and found.affine is not None
    # The middle of the pack and points around it, from the copy to the pack, are where they were drawn from.
    h, w = pack.shape[:2]
    points = np.array([[0.5 * w, 0.3 * w, 0.7 * w, 0.5 * w], [0.5 * h, 0.4 * h, 0.4 * h, 0.7 * h], [1, 1, 1, 1]])
    there = np.vstack([true @ points * in_normal(seen), np.ones(4)])
    off = np.linalg.norm(found.affine @ there - points[:2] * in_normal(pack), axis=0)
    assert off.max() < FIT_PX


def test_another_pack_shares_less_than_a_copy() -> None:
    packs = fronts(8)
    features = [local_features(p) for p in packs]
    for i, pack in enumerate(packs):
        seen = local_features(warp(pack, 5, 0.8)[0])
        places = [s.places for s in shared(seen, features)]
        assert int(np.argmax(places)) == i and places[i] > 2 * sorted(places)[-2]


def test_many_references_at_once_are_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shelfscan.perception.local_features.TOGETHER", 3)
    plain = local_features(np.zeros((50, 50, 3), np.uint8))
    references = [plain, *[local_features(p) for p in fronts(7)], plain]
    query = local_features(warp(fronts(7)[4], 3, 0.9)[0])
    together, alone = shared(query, references), [shared(query, [r])[0] for r in references]
    assert [s.places for s in together] == [s.places for s in alone] and int(np.argmax([s.places for s in together])) == 5
    assert all((a.features == b.features).all() for a, b in zip(together, alone, strict=True))
    assert shared(query, []) == []


def test_look_alikes_share_much_but_not_all() -> None:
    family = next(f for f in families(40) if len(f) > 2)
    mine, other = local_features(family[0]), local_features(family[1])
    itself, alike = shared(mine, [mine, other])
    assert 3 < alike.places < itself.places


def test_what_stands_on_its_head_is_not_looked_for() -> None:
    pack = fronts(1)[0]
    upside_down = np.ascontiguousarray(pack[::-1, ::-1])
    itself = local_features(pack)
    (as_it_is,), (turned,) = shared(itself, [itself]), shared(local_features(upside_down), [itself])
    assert turned.places < as_it_is.places / 4


@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (60, 40), (600, 400)])
def test_a_plain_crop_has_no_features_and_shares_nothing(value: int, size: tuple[int, int]) -> None:
    plain, pack = local_features(np.full((*size, 3), value, np.uint8)), local_features(fronts(1)[0])
    assert len(plain) == 0 and plain.descriptors.shape == (0, 128) and plain.places_px.shape == (0, 2)
    assert shared(plain, [pack, plain]) == [NOTHING, NOTHING] and shared(pack, [plain]) == [NOTHING]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_no_crop_is_too_small(height: int, width: int, seed: int) -> None:
    crop = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    found = local_features(crop)
    n = len(found)
    assert found.sizes_px.shape == found.angles_rad.shape == (n,) and found.descriptors.shape == (n, 128)
    np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=1), 1, atol=1e-4)
    assert ((found.places_px > -1) & (found.places_px < SIDE_PX + 1)).all() and (found.sizes_px > 0).all()
    (same,) = shared(found, [found])
    assert same.places <= len(same.features) <= n and len(set(same.features.tolist())) == len(same.features)


@pytest.mark.parametrize("size", [(1, 500), (500, 1), (2, 700), (900, 3), (5, 1000)])
def test_no_crop_is_too_thin(size: tuple[int, int]) -> None:
    crop = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    pack = local_features(fronts(1)[0])
    assert shared(local_features(crop), [pack])[0].places <= len(pack)


def test_the_same_crop_gives_the_same_features() -> None:
    pack = fronts(2)[1]
    a, b = local_features(pack), local_features(pack.copy())
    for name in ("places_px", "sizes_px", "angles_rad", "descriptors"):
        assert (getattr(a, name) == getattr(b, name)).all()
    # A crop is mostly a view into a photograph.
    wide = np.zeros((400, 600, 3), np.uint8)
    h, w = pack.shape[:2]
    wide[20 : 20 + h, 30 : 30 + w] = pack
    assert (local_features(wide[20 : 20 + h, 30 : 30 + w]).places_px == a.places_px).all()
