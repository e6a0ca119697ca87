"""The knobs of disorder: every one by name, refused with its name when wrong, and nothing at all at level 0."""

from __future__ import annotations

from pathlib import Path

import pytest

from shelfscan.errors import BadInput
from shelfscan.model.catalogue import Product
from shelfscan.paths import shared_file
from shelfscan.sim.disorder import load_messiness, wrong_sizes
from shelfscan.sim.labels import training_bundle


def test_levels_grow_and_a_knob_can_be_set_alone(tmp_path: Path) -> None:
    none, normal, bad = (load_messiness(level) for level in (0, 1, 2))
    for name in ("stale_bays", "wrong_dimensions", "missing_tags", "pushed_back_columns", "faced_up_bins"):
        assert getattr(normal, name) <= getattr(bad, name)
    assert none.stale_bays == none.wrong_dimensions == none.shelf_height_m == 0
    (tmp_path / "m.yaml").write_text("stale_bays: 0.25\npose_sigma_m: 0.01\n")
    mixed = load_messiness(1, tmp_path / "m.yaml", ["stale_bays=0.5"])
    assert mixed.stale_bays == 0.5 and mixed.sensing.pose_sigma_m == 0.01
    assert mixed.wrong_dimensions == normal.wrong_dimensions


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        (["stale_bay=1"], "stale_bay: unknown"),
        (["stale_bays"], "expected name=value"),
        (["stale_bays=much"], "stale_bays"),
        (["stale_bays=-1"], "stale_bays"),
        (["stale_bays=2"], "stale_bays"),
    ],
)
def test_a_wrong_knob_is_named(settings: list[str], word: str) -> None:
    with pytest.raises(BadInput, match=word):
        load_messiness(1, None, settings)
    with pytest.raises(BadInput, match="expected"):
        load_messiness(7)


def test_one_side_of_a_share_of_products_is_wrong_and_the_truth_keeps_it() -> None:
    true = {f"S{n}": Product(f"S{n}", "g", "n", "b", "c", 0.1, 0.08, 0.2, 1.0) for n in range(400)}
    said, wrong = wrong_sizes(true, 0.05, 3)
    assert 8 <= len(wrong) <= 36
    for sku, (side, value) in wrong.items():
        assert value == getattr(true[sku], side)
        ratio = getattr(said[sku], side) / value
        assert max(ratio, 1 / ratio) > 1.25
    assert all(said[s] == true[s] for s in true if s not in wrong)
    assert wrong_sizes(true, 0.05, 3)[1] == wrong
    assert wrong_sizes(true, 0.0, 3) == (true, {})


def test_a_test_store_is_no_training_store() -> None:
    with pytest.raises(BadInput, match="training stores have seeds from 100000"):
        training_bundle(shared_file("maps", "demo"))
