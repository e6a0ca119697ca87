"""The measures themselves, on cases whose answer is known by hand."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from shelfscan.errors import BadInput
from shelfscan.evaluation.data import LabelledBox, Unreadable, read_coco, read_rows
from shelfscan.evaluation.depth import bad_percent, evaluate_stereo
from shelfscan.evaluation.detection import coco_measures, evaluate_detection
from shelfscan.evaluation.facings import rows_in_order
from shelfscan.evaluation.reading import same_price
from shelfscan.evaluation.recognition import auroc, evaluate_crops, evaluate_recognition
from shelfscan.evaluation.speed import StageTimes
from shelfscan.model.detections import Detections
from shelfscan.model.imaging import Rgb
from shelfscan.perception.recognise import Gallery, Recogniser
from shelfscan.perception.stereo import disparity_map

Box = tuple[float, float, float, float]


def quiet(what: str, done: float) -> None:
    """Nobody watches."""


def labels(*boxes: Box, ignore: bool = False) -> list[LabelledBox]:
    return [LabelledBox(n, b, "", ignore) for n, b in enumerate(boxes)]


def found(*boxes: Box, scores: tuple[float, ...] | None = None) -> Detections:
    n = len(boxes)
    given = scores or tuple(0.9 - 0.1 * i for i in range(n))
    return Detections(np.array(boxes, np.float32).reshape(n, 4), np.array(given, np.float32), np.zeros(n, np.int64))


A, B, C = (10.0, 10.0, 50.0, 90.0), (60.0, 10.0, 100.0, 90.0), (110.0, 10.0, 150.0, 90.0)


def test_perfect_boxes_have_full_precision() -> None:
    assert coco_measures([labels(A, B)], [found(A, B)]) == {"ap": 1.0, "ap50": 1.0, "ap75": 1.0, "ar300": 1.0}


def test_a_missed_box_costs_recall_and_a_false_one_before_it_precision() -> None:
    missed = coco_measures([labels(A, B)], [found(A)])
    assert missed["ar300"] == 0.5 and missed["ap50"] == pytest.approx(51 / 101, abs=1e-4)
    false_first = coco_measures([labels(A)], [found(B, A)])
    assert false_first["ap50"] == pytest.approx(0.5)


def test_a_loose_box_counts_at_half_overlap_only() -> None:
    loose = (10.0, 10.0, 50.0, 66.0)  # 70 % of A
    measures = coco_measures([labels(A)], [found(loose)])
    assert measures["ap50"] == 1.0 and measures["ap75"] == 0.0 and measures["ap"] == pytest.approx(0.5, abs=0.01)


def test_more_than_a_hundred_boxes_are_looked_at() -> None:
    many: list[Box] = [(20.0 * (i % 20), 30.0 * (i // 20), 20.0 * (i % 20) + 15, 30.0 * (i // 20) + 25) for i in range(240)]
    assert coco_measures([labels(*many)], [found(*many, scores=(0.5,) * 240)])["ar300"] == 1.0


def test_an_ignored_box_is_neither_right_nor_wrong() -> None:
    truth = [*labels(A), *labels(B, ignore=True)]
    assert coco_measures([truth], [found(B, A)])["ap"] == 1.0
    with pytest.raises(BadInput, match="not to be ignored"):
        coco_measures([labels(A, ignore=True)], [found(A)])


def test_counts_leave_out_what_lies_in_ignored_boxes(tmp_path: Path) -> None:
    coco(tmp_path, [A, B, C], ignored={2})

    class Finder:
        description = "finds three"

        def detect(self, picture: Rgb) -> Detections:
            return found(A, C, (200.0, 10.0, 240.0, 90.0))

    result = evaluate_detection(tmp_path, Finder(), Finder(), 0.42, quiet)
    # Wanted A and B; found A, one in the ignored C, and one that is nowhere: as many as wanted.
    assert result["count_mae"] == 0.0 and result["boxes"] == 2 and result["images"] == 1
    assert result["ap50"] == pytest.approx(51 / 101, abs=1e-4)


def test_labelled_price_tags_are_no_products(tmp_path: Path) -> None:
    coco(tmp_path, [A, B])
    data = json.loads((tmp_path / "annotations.json").read_text())
    data["categories"].append({"id": 7, "name": "price_tag"})
    data["annotations"][1]["category_id"] = 7
    (tmp_path / "annotations.json").write_text(json.dumps(data))

    class Finder:
        description = "finds one"

        def detect(self, picture: Rgb) -> Detections:
            return found(A)

    result = evaluate_detection(tmp_path, Finder(), Finder(), 0.42, quiet)
    assert result["boxes"] == 1 and result["ap"] == 1.0 and result["count_mae"] == 0.0


def coco(folder: Path, boxes: list[Box], ignored: set[int] = frozenset()) -> None:  # type: ignore[assignment]
    (folder / "images").mkdir(parents=True)
    Image.fromarray(np.full((120, 300, 3), 200, np.uint8)).save(folder / "images" / "a.png")
    annotations = [
        {"id": n + 1, "image_id": 1, "category_id": 2 if n in ignored else 1, "bbox": [x0, y0, x1 - x0, y1 - y0]}
        for n, (x0, y0, x1, y1) in enumerate(boxes)
    ]
    categories = [{"id": 1, "name": "cola"}, {"id": 2, "name": "__UNKNOWN"}]
    data = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"annotations": [{"id": 1, "image_id": 9, "bbox": [0, 0, 5, 5]}]}, r"annotations\[0\]: image_id 9"),
        ({"annotations": [{"id": 1, "image_id": 1, "bbox": [0, 0, 0, 5]}]}, r"annotations\[0\]: expected id"),
        ({"annotations": [{"id": 1, "image_id": 1, "bbox": [0, 0, float("nan"), 5]}]}, r"annotations\[0\]: expected id"),
        ({"images": [{"id": 1}]}, r"images\[0\]: expected id and file_name"),
        ({"images": {}}, "the lists images and annotations"),
    ],
)
def test_wrong_labels_are_named(tmp_path: Path, change: dict[str, object], named: str) -> None:
    coco(tmp_path, [A])
    data = json.loads((tmp_path / "annotations.json").read_text())
    (tmp_path / "annotations.json").write_text(json.dumps({**data, **change}))
    with pytest.raises(BadInput, match=named):
        read_coco(tmp_path)


def test_a_table_without_a_column_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,words\na.jpg,x\n")
    with pytest.raises(BadInput, match=r"labels.csv: line 1: missing column text"):
        read_rows(tmp_path / "labels.csv", ("file", "text"))


def test_auroc_is_the_share_of_pairs_in_order() -> None:
    assert auroc([0.9, 0.8], [0.1, 0.2]) == 1.0
    assert auroc([0.5], [0.5]) == 0.5
    assert auroc([0.9, 0.1], [0.5]) == 0.5


class MeanColour:
    """An embedder that knows a crop by its colour."""

    description = "mean colour"

    def embed(self, crops: list[Rgb]) -> np.ndarray:
        out = np.array([c.reshape(-1, 3).mean(axis=0) for c in crops], np.float32).reshape(-1, 3) - 60
        return np.asarray(out / np.linalg.norm(out, axis=1, keepdims=True), np.float32)


def enrol(references: dict[str, list[Rgb]]) -> Recogniser:
    return Recogniser(MeanColour(), Gallery.build(MeanColour(), references))


def colour(path: Path, rgb: tuple[int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 20, 3), rgb, np.uint8)).save(path)


def test_crops_of_plain_colours_are_told_apart_and_a_bad_file_is_left_out(tmp_path: Path) -> None:
    for name, rgb in (("red", (220, 10, 10)), ("green", (10, 220, 10)), ("blue", (10, 10, 220))):
        for n in range(4):
            colour(tmp_path / name / f"{n}.png", rgb)
    (tmp_path / "red" / "broken.jpg").write_bytes(b"nothing")
    result = evaluate_crops(tmp_path, enrol, 1, 2, 0, quiet)
    assert (result["top1"], result["top5"], result["auroc_unknown"]) == (1.0, 1.0, 1.0)
    assert (result["top1_planned"], result["precision_surest_half"]) == (1.0, 1.0)
    assert (result["answered"], result["precision_answered"], result["strangers_refused"]) == (1.0, 1.0, 1.0)
    assert (result["tied"], result["precision_tied"]) == (0.0, None)
    assert result["queries"] == 3 * 3 * 2 and result["gallery"] == 3
    assert len(result["unreadable"]) == 1 and "broken.jpg" in result["unreadable"][0]


def test_mislabelled_crops_are_wrong(tmp_path: Path) -> None:
    for name in ("a", "b"):
        colour(tmp_path / name / "0.png", (220, 10, 10))
        colour(tmp_path / name / "1.png", (10, 220, 10))
    result = evaluate_crops(tmp_path, enrol, 1, 20, 0, quiet)
    assert 0.2 < result["top1"] < 0.8
    # Two references alike leave queries of the other colour, which are unknown; two that differ name each other's.
    assert 0.2 < result["answered"] < 0.8 and result["precision_answered"] == 0.0 and result["tied"] == 0.0
    assert result["precision_surest_half"] == 0.0, "the sure ones are the wrong ones"
    assert result["top1_planned"] == result["top1"], "of two SKUs both are planned"


def test_products_of_one_colour_are_ties_and_never_answered(tmp_path: Path) -> None:
    for name, rgb in (("a", (220, 10, 10)), ("b", (221, 10, 10)), ("c", (10, 10, 220))):
        for n in range(3):
            colour(tmp_path / name / f"{n}.png", rgb)
    result = evaluate_crops(tmp_path, enrol, 1, 1, 0, quiet)
    assert result["tied"] == pytest.approx(2 / 3, abs=1e-4) and result["precision_tied"] == 1.0
    assert result["answered"] == pytest.approx(1 / 3, abs=1e-4) and result["precision_answered"] == 1.0
    assert result["strangers_refused"] == pytest.approx(1 / 3, abs=1e-4), "without a, its pictures are b"


def test_planned_neighbours_are_drawn_by_seed_and_never_hurt(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    for name in "abcdefghijklmnop":
        base = rng.integers(100, 200, 3)
        for n in range(3):
            r, g, b = (base + rng.integers(-25, 25, 3)).tolist()
            colour(tmp_path / name / f"{n}.png", (r, g, b))
    one, again, other = (evaluate_crops(tmp_path, enrol, 1, 1, seed, quiet) for seed in (1, 1, 2))
    assert one["top1"] < one["top1_planned"] < 1.0 and other["top1"] < other["top1_planned"]
    assert {**one, "ms_per_query": 0} == {**again, "ms_per_query": 0} != {**other, "ms_per_query": 0}
    assert one["tied"] == 1.0, "colours as near as these are all within a tie"


def racks(folder: Path) -> None:
    """Two photographs: red and green on both, the query of blue only beside its own gallery crop."""
    (folder / "images").mkdir(parents=True)
    boxes = {1: (0, (220, 10, 10)), 2: (1, (10, 220, 10)), 3: (2, (10, 10, 220)), 4: (3, (10, 10, 220))}
    annotations = []
    for image in (1, 2):
        picture = np.full((40, 160, 3), 90, np.uint8)
        for n, (column, rgb) in boxes.items():
            picture[:, 40 * column : 40 * column + 30] = rgb
            annotations.append({"id": 10 * image + n, "image_id": image, "bbox": [40 * column, 0, 30, 40]})
        Image.fromarray(picture).save(folder / "images" / f"{image}.png")
    images = [{"id": i, "file_name": f"{i}.png"} for i in (1, 2)]
    (folder / "annotations.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    rows = ["red,11,1.png,gallery,", "red,21,2.png,query,0", "green,12,1.png,gallery,", "green,22,2.png,query,0"]
    rows += ["blue,13,1.png,gallery,", "blue,14,1.png,query,1"]
    (folder / "gallery_query.csv").write_text("sku,annotation_id,image,role,same_image_as_gallery\n" + "\n".join(rows) + "\n")


@pytest.mark.parametrize("references", [1, 5])
def test_only_queries_of_other_photographs_count(tmp_path: Path, references: int) -> None:
    racks(tmp_path)
    result = evaluate_recognition(tmp_path, enrol, references, 0, quiet)
    assert result["queries"] == 2 and result["gallery"] == 3 and result["top1"] == 1.0


def test_an_unknown_annotation_is_named_with_its_line(tmp_path: Path) -> None:
    racks(tmp_path)
    with (tmp_path / "gallery_query.csv").open("a") as f:
        f.write("red,99,2.png,query,0\n")
    with pytest.raises(BadInput, match=r"gallery_query.csv: line 8: annotation_id '99'"):
        evaluate_recognition(tmp_path, enrol, 1, 0, quiet)


def test_rows_must_come_in_order() -> None:
    assert rows_in_order([["a", "b"], ["c"]], [["x"], ["a", "b"], ["c"]]) == 2
    assert rows_in_order([["a", "b"], ["c"]], [["c"], ["a", "b"]]) == 1
    assert rows_in_order([["a", "b"]], [["b", "a"]]) == 0


@pytest.mark.parametrize(("a", "b", "same"), [("1,50", "1.50", True), ("99", "99.00", True), ("99", "0.99", False)])
def test_amounts_are_compared_not_texts(a: str, b: str, same: bool) -> None:
    assert same_price(a, b) is same


def shifted_pair(folder: Path, shift: int) -> None:
    """Noise seen twice, ``shift`` pixels apart, with its disparity unknown in one corner."""
    folder.mkdir(parents=True)
    noise = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (120, 320), np.uint8), (3, 3), 0)
    disparity = np.full((120, 300), 64 * shift, np.uint16)
    disparity[:20, :20] = 0
    Image.fromarray(noise[:, :300]).save(folder / "left.png")
    Image.fromarray(noise[:, shift : shift + 300]).save(folder / "right.png")
    Image.fromarray(disparity).save(folder / "disp_left_x64.png")
    (folder / "meta.json").write_text(json.dumps({"max_disp": 20, "disp_scale": 64}))


def test_a_shift_is_measured_up_to_the_border_of_the_other_picture(tmp_path: Path) -> None:
    shifted_pair(tmp_path / "noise", 12)
    result = evaluate_stereo(tmp_path, quiet)
    (pair,) = result["pairs"]
    # The left 12 of 300 columns are not in the right picture: they have no answer, and that counts as bad.
    assert 3.0 < pair["bad2"] < 6.5 and 0.93 < pair["valid"] < 0.97 and result["bad2_mean"] == pair["bad2"]


def test_no_match_lies_outside_the_other_picture(tmp_path: Path) -> None:
    shifted_pair(tmp_path / "noise", 12)
    left, right = (cv2.imread(str(tmp_path / "noise" / f"{n}.png"), cv2.IMREAD_GRAYSCALE) for n in ("left", "right"))
    found_px = disparity_map(left, right, 0, 21)
    assert np.nanmax(found_px - np.arange(300)) <= 0
    assert np.isfinite(found_px[:, 16:30]).mean() > 0.9, "answers begin where the other picture does"


def test_holes_and_wrong_answers_are_bad_and_the_unknown_is_not_asked() -> None:
    truth = np.array([[10.0, 10.0, 10.0, 0.0]])
    assert bad_percent(np.array([[10.5, np.nan, 13.0, np.nan]], np.float32), truth) == pytest.approx(66.67)


def test_a_pair_that_lacks_a_file_is_named(tmp_path: Path) -> None:
    shifted_pair(tmp_path / "noise", 12)
    (tmp_path / "noise" / "right.png").unlink()
    with pytest.raises(BadInput, match=r"right.png: no such file"):
        evaluate_stereo(tmp_path, quiet)


def test_stage_times_add_up() -> None:
    now = iter([0.0, 1.0, 5.0, 7.0])
    times = StageTimes(clock=lambda: next(now))
    for _ in range(2):
        with times("depth"):
            pass
    assert times.seconds["depth"] == 3.0 and times.calls["depth"] == 2 and times.seconds["tags"] == 0.0


def test_unreadable_pictures_are_noted_and_end_nothing(tmp_path: Path) -> None:
    bad = Unreadable()
    with nullcontext():
        assert bad.read(tmp_path / "none.jpg") is None
    assert "none.jpg" in bad.problems[0] and bad.none_left().problems == tuple(bad.problems)
