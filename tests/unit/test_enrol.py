"""Enrolment: what is added, what is left out, what is warned of; groups and new designs on vectors that are known."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from shelfscan.cli.enrol import _evidence
from shelfscan.cli.main import app
from shelfscan.errors import BadInput
from shelfscan.paths import ROOT
from shelfscan.perception.enrol import cluster, contact_sheet, drifts, look_alikes

DEMO = ROOT / "maps" / "demo" / "gallery"


def around(axis: int, count: int, rng: np.random.Generator, spread: float = 0.05) -> np.ndarray:
    v = rng.normal(0, spread, (count, 16))
    v[:, axis] += 1
    return np.asarray(v / np.linalg.norm(v, axis=1, keepdims=True), np.float32)


def test_groups_are_the_products() -> None:
    rng = np.random.default_rng(0)
    vectors = np.concatenate([around(0, 5, rng), around(3, 7, rng), around(5, 1, rng)])
    order = rng.permutation(13)
    groups = cluster(vectors[order])
    assert [len(g) for g in groups] == [7, 5, 1] and sorted(i for g in groups for i in g) == list(range(13))
    assert {int(order[i]) for i in groups[0]} == set(range(5, 12))
    assert cluster(np.zeros((0, 16), np.float32)) == []


def test_a_chain_of_neighbours_is_not_one_product() -> None:
    angles = np.linspace(0, np.pi, 13)
    chain = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    assert len(cluster(chain)) > 1


def test_look_alikes_are_named_once_and_the_nearest_first() -> None:
    v = np.array([[1, 0], [0.99, 0.141], [0, 1], [0.6, 0.8]], np.float32)
    found = look_alikes(["b", "a", "c", "b"], v)
    assert [(p.first, p.second) for p in found] == [("a", "b")]


def test_a_new_design_is_told_from_a_misplaced_product_and_from_a_bad_crop() -> None:
    rng = np.random.default_rng(1)
    references = np.concatenate([around(0, 2, rng), around(1, 2, rng)])
    crops = np.concatenate([around(0, 4, rng), around(7, 4, rng), around(1, 4, rng), around(9, 1, rng)])
    found = drifts(["A"] * 13, crops, ["A", "A", "B", "B"], references)
    assert [(d.sku, d.members) for d in found] == [("A", (4, 5, 6, 7))]
    assert drifts([], crops[:0], ["A"], references[:1]) == []


def test_a_sheet_shows_each_crop() -> None:
    sheet = contact_sheet([np.full((30, 90, 3), 10 * i, np.uint8) for i in range(8)])
    assert sheet.shape == (320, 960, 3) and (sheet[240, 240] == 70).all() and (sheet[300, 900] == 255).all()


def run(*arguments: object) -> dict[str, object]:
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return dict(json.loads(done.stdout))


def test_enrolment_adds_leaves_out_and_warns(tmp_path: Path) -> None:
    gallery = tmp_path / "g"
    first = DEMO / "SKU-000001" / "0.jpg"
    added = run("enrol", "--gallery", gallery, "--sku", "X1", first, "--json")["added"]
    assert added == [str(gallery / "X1" / "0.jpg")]
    again = run("enrol", "--gallery", gallery, "--sku", "X1", first, "--json")
    assert again["added"] == [] and again["left_out"] == 1
    other = run("enrol", "--gallery", gallery, "--sku", "X2", first, "--json")
    warned = " ".join(map(str, other["warnings"]))  # type: ignore[call-overload]
    assert "also a picture of SKU X1" in warned and "SKU X1 and SKU X2 look alike" in warned


def test_a_box_of_a_photograph_is_enrolled(tmp_path: Path) -> None:
    photo = tmp_path / "p.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (100, 120, 3), np.uint8)).save(photo)
    run("enrol", "--gallery", tmp_path / "g", "--sku", "X", photo, "--box", "10,20,60,90", "--json")
    with Image.open(tmp_path / "g" / "X" / "0.jpg") as enrolled:
        assert enrolled.size == (50, 70)
    for box in ("10,20,200,90", "60,20,10,90", "a,b,c,d", "1,2,3"):
        with pytest.raises(BadInput, match="--box"):
            run("enrol", "--gallery", tmp_path / "n", "--sku", "X", photo, "--box", box)
    assert not (tmp_path / "n").exists()


def test_a_named_table_is_enrolled_and_a_wrong_one_is_not(tmp_path: Path) -> None:
    picture = DEMO / "SKU-000005" / "0.jpg"
    table = tmp_path / "groups.csv"

    def write(*skus: str) -> None:
        with table.open("w", newline="") as f:
            out = csv.writer(f)
            out.writerow("group,sku,picture,x_min_px,y_min_px,x_max_px,y_max_px".split(","))
            out.writerows(["001", sku, picture, 5, 5, 60, 60 + n] for n, sku in enumerate(skus))

    wrong = ((("", ""), "no row bears a SKU"), (("A", "B"), "more than one SKU"), (("../A",), "not usable as a SKU"))
    for skus, words in wrong:
        write(*skus)
        with pytest.raises(BadInput, match=words):
            run("enrol", "--gallery", tmp_path / "g", "--named", table)
    assert not (tmp_path / "g").exists()
    write("A")
    assert len(run("enrol", "--gallery", tmp_path / "g", "--named", table, "--json")["added"]) == 1  # type: ignore[arg-type]


def test_one_bad_picture_enrols_none(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("no picture")
    with pytest.raises(BadInput, match=r"bad\.jpg"):
        run("enrol", "--gallery", tmp_path / "g", "--sku", "X", DEMO / "SKU-000001" / "0.jpg", tmp_path / "bad.jpg")
    assert not (tmp_path / "g").exists()


def test_evidence_outside_the_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "stock_map.json").write_text(json.dumps({"bins": [{"sku": "A", "evidence": ["../secret.jpg"]}]}))
    with pytest.raises(BadInput, match="not in the run"):
        list(_evidence(tmp_path))
    (tmp_path / "stock_map.json").write_text("[]")
    with pytest.raises(BadInput, match="not a stock map"):
        list(_evidence(tmp_path))
