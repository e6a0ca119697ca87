"""Enrolment: what is added, what is left out, what is warned of; groups and new designs on vectors that are known."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from shelfscan.cli.enrol import _evidence
from shelfscan.cli.main import app
from shelfscan.errors import BadInput
from shelfscan.paths import ROOT
from shelfscan.perception.enrol import Sighting, cluster, contact_sheet, drifts, duplicates, in_front, look_alikes

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
    assert [(p.first, p.second) for p in look_alikes(["b", "a", "c", "b"], v, first=1)] == [("a", "b")]
    assert look_alikes(["b", "a", "c", "b"], v, first=2) == [], "what was there before is no news"


def test_a_large_gallery_is_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    v = np.concatenate([around(a, 5, rng, 0.02) for a in (0, 0, 3, 4)])
    skus = [s for s in "abcd" for _ in range(5)]
    whole = look_alikes(skus, v), duplicates([0] * 20, v)
    assert [(p.first, p.second) for p in whole[0]] == [("a", "b")] and (0, 5) in whole[1] and (0, 10) not in whole[1]
    monkeypatch.setattr("shelfscan.perception.enrol.BLOCK", 3)
    assert (look_alikes(skus, v), duplicates([0] * 20, v)) == whole


def sightings(count: int, shape: float = 0.5, night: str = "1", x_m: float = 0.0) -> list[Sighting]:
    return [Sighting("A", night, (x_m, 0.1 * i), shape) for i in range(count)]


def found_designs(seen: list[Sighting], crops: np.ndarray) -> list[tuple[str, tuple[int, ...]]]:
    rng = np.random.default_rng(1)
    references = np.concatenate([around(0, 2, rng), around(1, 2, rng)])
    return [(d.sku, d.members) for d in drifts(seen, crops, ["A", "A", "B", "B"], [0.5, 0.6, 0.5, 0.5], references)]


def test_a_new_design_is_told_from_a_misplaced_product_and_from_a_bad_crop() -> None:
    rng = np.random.default_rng(3)
    crops = np.concatenate([around(0, 4, rng), around(7, 4, rng), around(1, 4, rng), around(9, 1, rng)])
    seen = sightings(4) + sightings(2) + sightings(2, x_m=1.5) + sightings(5)
    assert found_designs(seen, crops) == [("A", (4, 5, 6, 7))]
    assert found_designs([], crops[:0]) == []


@pytest.mark.parametrize(
    ("seen", "found"),
    [
        (sightings(4), False),  # one place in one night
        (sightings(3) + sightings(1, x_m=1.0), True),
        (sightings(3) + sightings(1, x_m=0.9), False),
        (sightings(3) + sightings(1, night="2"), True),
        (sightings(2) + sightings(1, night="2"), False),  # too few
        (sightings(3, shape=0.9) + sightings(1, night="2", shape=0.9), False),  # half a package, or two
        (sightings(3, shape=0.7) + sightings(1, night="2", shape=0.41), True),
    ],
)
def test_a_design_needs_several_whole_packages_in_two_places_or_nights(seen: list[Sighting], found: bool) -> None:
    crops = around(7, len(seen), np.random.default_rng(4))
    assert found_designs(seen, crops) == ([("A", tuple(range(len(seen))))] if found else [])


def test_what_stands_behind_or_on_top_is_not_in_front() -> None:
    boxes = [[0, 100, 50, 200], [52, 105, 100, 198], [2, 20, 48, 110], [60, 0, 160, 90], [120, 100, 160, 200]]
    assert in_front(np.array(boxes, np.float32)).tolist() == [True, True, False, False, True]
    assert in_front(np.zeros((0, 4), np.float32)).tolist() == []


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
    assert "SKU X1 has the same picture" in warned and "SKU X1 and SKU X2 look alike" in warned
    third = run("enrol", "--gallery", gallery, "--sku", "X3", DEMO / "SKU-000009" / "0.jpg", "--json")
    assert "X1 and SKU X2" not in " ".join(map(str, third["warnings"])), "what was there before is no news"  # type: ignore[call-overload]


def test_files_that_are_no_references_are_left_alone(tmp_path: Path) -> None:
    gallery = tmp_path / "g"
    gallery.mkdir()
    (gallery / "README.txt").write_text("front and side, please")
    (gallery / "X.txt").write_text("notes")
    first = DEMO / "SKU-000001" / "0.jpg"
    assert run("enrol", "--gallery", gallery, "--sku", "X", first, "--json")["added"] == [str(gallery / "X" / "0.jpg")]
    assert (gallery / "X.txt").read_text() == "notes"


@pytest.mark.parametrize("name", ["Y.jpg", "Y"])
def test_a_sku_that_is_one_file_is_named(tmp_path: Path, name: str) -> None:
    shutil.copy(DEMO / "SKU-000001" / "0.jpg", tmp_path / name)
    with pytest.raises(BadInput, match="SKU Y stands there as one file"):
        run("enrol", "--gallery", tmp_path, "--sku", "Y", DEMO / "SKU-000002" / "0.jpg")


def test_an_empty_folder_of_another_sku_is_named_and_nothing_is_added(tmp_path: Path) -> None:
    (tmp_path / "Z").mkdir()
    with pytest.raises(BadInput, match="Z: no picture of this SKU"):
        run("enrol", "--gallery", tmp_path, "--sku", "X", DEMO / "SKU-000001" / "0.jpg")
    assert [p.name for p in tmp_path.iterdir()] == ["Z"]


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


def shelf(path: Path, skus: list[str]) -> Path:
    """A drawn shelf with the first gallery picture of each SKU, three times side by side."""
    board = np.full((420, 180 * len(skus) * 3 + 60, 3), 205, np.uint8)
    board[340:380] = 120
    for n, sku in enumerate(s for s in skus for _ in range(3)):
        with Image.open(DEMO / sku / "0.jpg") as picture:
            picture.thumbnail((150, 260))
            w, h = picture.size
            board[340 - h : 340, 40 + 180 * n : 40 + 180 * n + w] = np.asarray(picture.convert("RGB"))
    Image.fromarray(board).save(path)
    return path


def test_unknown_products_are_grouped_named_and_then_known(tmp_path: Path) -> None:
    skus = sorted(d.name for d in DEMO.iterdir())[:2]
    photo = shelf(tmp_path / "shelf.png", skus)
    (tmp_path / "broken.jpg").write_text("no picture")
    gallery, sheets = tmp_path / "g", tmp_path / "unknown"
    command = ["gallery", "unknowns", "--out", sheets, photo, tmp_path / "broken.jpg", "--json"]
    done = CliRunner().invoke(app, [str(a) for a in command])
    assert done.exit_code == 1, "one picture could not be read"
    result = json.loads(done.stdout)
    assert result["products"] == result["unknown"] >= 4
    assert len(result["unreadable"]) == 1 and "broken.jpg" in result["unreadable"][0]
    with (sheets / "groups.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == result["products"] and all((sheets / f"group-{r['group']}.jpg").is_file() for r in rows)
    for row in rows:
        row["sku"] = f"S{row['group']}"
    with (sheets / "groups.csv").open("w", newline="") as f:
        out = csv.DictWriter(f, rows[0].keys())
        out.writeheader()
        out.writerows(rows)
    run("enrol", "--gallery", gallery, "--named", sheets / "groups.csv", "--json")
    again = run("gallery", "unknowns", "--gallery", gallery, "--out", tmp_path / "again", photo, "--json")
    assert again["unknown"] == 0
    with pytest.raises(BadInput, match="is not empty"):
        run("gallery", "unknowns", "--gallery", gallery, "--out", sheets, photo)


def test_a_gallery_is_checked(tmp_path: Path) -> None:
    for name in ("A/0.jpg", "A/1.jpg", "B/0.jpg"):
        (tmp_path / "g" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(DEMO / "SKU-000001" / "0.jpg", tmp_path / "g" / name)
    result = run("gallery", "check", "--gallery", tmp_path / "g", "--json")
    assert [d["same_sku"] for d in result["duplicates"]] == [True, False, False]  # type: ignore[attr-defined]
    assert [(p["first"], p["second"]) for p in result["look_alikes"]] == [("A", "B")]  # type: ignore[attr-defined]
    assert result["new_designs"] == []
    with pytest.raises(BadInput, match="give --run"):
        run("gallery", "check", "--gallery", tmp_path / "g", "--out", tmp_path / "designs")
    (tmp_path / "g" / "B" / "1.jpg").write_text("no picture")
    with pytest.raises(BadInput, match=r"B/1\.jpg"):
        run("gallery", "check", "--gallery", tmp_path / "g")


def test_evidence_outside_the_run_is_refused(tmp_path: Path) -> None:
    def said(**bin_: object) -> None:
        a_bin = {"sku": "A", "position": [1, 2, 3], "evidence": ["evidence/a.jpg"], **bin_}
        document = {"mission_id": "m", "created_at": "t", "bins": [a_bin]}
        (tmp_path / "stock_map.json").write_text(json.dumps(document))

    said()
    ((file, place),) = _evidence(tmp_path)
    assert file == tmp_path / "evidence" / "a.jpg" and (place.sku, place.night, place.position_m) == ("A", "m t", (1.0, 2.0))
    said(evidence=["../secret.jpg"])
    with pytest.raises(BadInput, match="not in the run"):
        list(_evidence(tmp_path))
    said(position=[1])
    with pytest.raises(BadInput, match="not a stock map"):
        list(_evidence(tmp_path))
    (tmp_path / "stock_map.json").write_text("[]")
    with pytest.raises(BadInput, match="not a stock map"):
        list(_evidence(tmp_path))
    (tmp_path / "stock_map.json").unlink()
    with pytest.raises(BadInput, match="expected the folder of a finished run"):
        list(_evidence(tmp_path))
