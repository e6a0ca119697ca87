"""Labels of four formats become one type; what is wrong is named, all at once; drafts survive the way out and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shelfscan.errors import BadInput
from shelfscan.learn.datasets import IGNORE, Dataset, Labelled, class_of, read_dataset, read_raw
from shelfscan.learn.exchange import merge
from shelfscan.learn.formats import coco, cvat, label_studio
from shelfscan.model.detections import DetectionClass

W, H = 200, 100
#: x_min, y_min, x_max, y_max and label of the one labelled picture.
BOXES = [
    ((20.0, 10.0, 60.0, 70.0), "cola 33cl"),
    ((70.0, 10.0, 110.0, 70.0), "product"),
    ((20.0, 75.0, 60.0, 90.0), "price tag"),
]


def picture(path: Path, colour: int = 90, size: tuple[int, int] = (W, H), **save: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour, colour // 2, 20)).save(path, **save)
    return path


def as_coco(folder: Path) -> Path:
    picture(folder / "images" / "a.jpg")
    names = sorted({n for _, n in BOXES})
    annotations = [
        {"id": i, "image_id": 7, "category_id": names.index(n), "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]]}
        for i, (b, n) in enumerate(BOXES)
    ]
    document = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": W, "height": H}],
        "annotations": annotations,
        "categories": [{"id": i, "name": n} for i, n in enumerate(names)],
    }
    (folder / "annotations.json").write_text(json.dumps(document))
    return folder


def as_yolo(folder: Path) -> Path:
    picture(folder / "train" / "images" / "a.jpg")
    names = sorted({n for _, n in BOXES})
    lines = [
        f"{names.index(n)} {(b[0] + b[2]) / 2 / W} {(b[1] + b[3]) / 2 / H} {(b[2] - b[0]) / W} {(b[3] - b[1]) / H}"
        for b, n in BOXES
    ]
    (folder / "train" / "labels").mkdir()
    (folder / "train" / "labels" / "a.txt").write_text("\n".join(lines) + "\n")
    (folder / "data.yaml").write_text(f"train: ../train/images\nnames: {json.dumps(names)}\n")
    return folder


def as_label_studio(folder: Path) -> Path:
    picture(folder / "images" / "a.jpg")
    result = [
        {
            "type": "rectanglelabels",
            "original_width": W,
            "original_height": H,
            "value": {
                "x": 100 * b[0] / W, "y": 100 * b[1] / H, "width": 100 * (b[2] - b[0]) / W, "height": 100 * (b[3] - b[1]) / H,
                "rotation": 0, "rectanglelabels": [n],
            },
        }
        for b, n in BOXES
    ]  # fmt: skip
    tasks = [
        {"id": 1, "data": {"image": "/data/upload/1/0123abcd-a.jpg"}, "annotations": [{"result": result}]},
        {"id": 2, "data": {"image": "/data/upload/1/0123abcd-b.jpg"}, "annotations": [], "predictions": []},
        {"id": 3, "data": {"image": "/x/c.jpg"}, "annotations": [{"was_cancelled": True, "result": []}]},
    ]
    (folder / "export.json").write_text(json.dumps(tasks))
    return folder / "export.json"


def as_cvat(folder: Path) -> Path:
    picture(folder / "images" / "a.jpg")
    boxes = "".join(
        f'<box label="{n}" xtl="{b[0]}" ytl="{b[1]}" xbr="{b[2]}" ybr="{b[3]}" occluded="0"></box>\n' for b, n in BOXES
    )
    image = f'<image id="0" name="a.jpg" width="{W}" height="{H}">'
    text = f"<annotations><version>1.1</version>\n{image}\n{boxes}</image></annotations>"
    (folder / "annotations.xml").write_text(text)
    return folder / "annotations.xml"


@pytest.mark.parametrize("write", [as_coco, as_yolo, as_label_studio, as_cvat])
def test_the_same_labels_in_any_format(tmp_path: Path, write: Any) -> None:
    data = read_dataset(write(tmp_path))
    (one,) = data.pictures
    assert one.path.name == "a.jpg"
    assert (one.width_px, one.height_px) == (W, H)
    np.testing.assert_allclose(one.boxes_px, [b for b, _ in BOXES], atol=0.01)
    assert one.classes.tolist() == [0, 0, int(DetectionClass.PRICE_TAG)]
    assert one.names == tuple(n for _, n in BOXES)
    assert data.left_out == []


def test_tasks_that_nobody_submitted_are_not_empty_pictures(tmp_path: Path) -> None:
    raw = read_raw(as_label_studio(tmp_path))
    assert len(raw.pictures) == 1
    assert raw.bare == 2


def test_a_yolo_picture_without_a_label_file_is_not_labelled_but_one_with_an_empty_file_is(tmp_path: Path) -> None:
    folder = as_yolo(tmp_path)
    picture(folder / "train" / "images" / "new.jpg", 10)
    picture(folder / "train" / "images" / "bare.jpg", 20)
    (folder / "train" / "labels" / "bare.txt").write_text("")
    raw = read_raw(folder)
    assert raw.bare == 1
    assert {Path(p.name).name: len(p.boxes) for p in raw.pictures} == {"a.jpg": 3, "bare.jpg": 0}


@pytest.mark.parametrize(
    ("name", "cls"),
    [("Price Tag", 1), ("price-tag", 1), ("EMPTY", 2), ("gap", 2), ("__UNKNOWN", IGNORE), ("ignore", IGNORE), ("Fanta", 0)],
)
def test_what_a_label_means(name: str, cls: int) -> None:
    assert class_of(name) == cls


def test_a_turned_rectangle_is_bounded(tmp_path: Path) -> None:
    file = as_label_studio(tmp_path)
    tasks = json.loads(file.read_text())
    # 40 x 20 pixels at (100, 30), turned by 90 degrees about its top left corner: it now reaches left and down.
    value = {"x": 50, "y": 30, "width": 20, "height": 20, "rotation": 90, "rectanglelabels": ["product"]}
    tasks[0]["annotations"][0]["result"] = [
        {"type": "rectanglelabels", "original_width": W, "original_height": H, "value": value}
    ]
    file.write_text(json.dumps(tasks))
    (one,) = read_dataset(file).pictures
    np.testing.assert_allclose(one.boxes_px, [[80, 30, 100, 70]], atol=0.01)


def test_every_problem_of_a_coco_file_is_named(tmp_path: Path) -> None:
    folder = as_coco(tmp_path)
    file = folder / "annotations.json"
    document = json.loads(file.read_text())
    document["annotations"][0]["bbox"] = [1, 2, -3, 4]
    document["annotations"][1]["image_id"] = 99
    document["annotations"][2]["category_id"] = 99
    document["images"].append({"id": 8})
    file.write_text(json.dumps(document))
    with pytest.raises(BadInput) as e:
        read_dataset(folder)
    text = "\n".join(e.value.problems)
    assert len(e.value.problems) == 4
    assert f"{file}: annotations[0].bbox: expected [x, y, width, height]" in text
    assert "annotations[1].image_id: 99" in text
    assert "annotations[2].category_id: 99" in text
    assert "images[1]: expected id and file_name" in text


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 0.5 0.5 0.2", "expected class x_centre"),
        ("0 0.5 0.5 0.2 1.7", "expected class x_centre"),
        ("9 0.5 0.5 0.2 0.2", "class 9: not among the names"),
        ("bottle 0.5 0.5 0.2 0.2", "expected numbers"),
    ],
)
def test_a_wrong_yolo_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    folder = as_yolo(tmp_path)
    labels = folder / "train" / "labels" / "a.txt"
    labels.write_text(labels.read_text() + line + "\n")
    with pytest.raises(BadInput, match=said) as e:
        read_dataset(folder)
    assert f"{labels}: line 4" in str(e.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('xtl="20.0"', 'xtl="left"', "line 3: box: expected label and xtl"),
        ('name="a.jpg" ', "", "line 2: image: expected name"),
        ("</annotations>", "", "not XML"),
        ("<annotations>", '<!DOCTYPE a [<!ENTITY b "c">]><annotations>', "entity declarations"),
    ],
)
def test_a_wrong_cvat_line_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    file = as_cvat(tmp_path)
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(BadInput, match=said):
        read_dataset(file)


def test_one_bad_picture_does_not_stop_the_others(tmp_path: Path) -> None:
    folder = as_coco(tmp_path)
    file = folder / "annotations.json"
    document = json.loads(file.read_text())
    turned = Image.Exif()
    turned[0x0112] = 6
    picture(folder / "images" / "turned.jpg", 30, exif=turned.tobytes())
    picture(folder / "images" / "small.jpg", 40, size=(W // 2, H))
    (folder / "images" / "broken.jpg").write_bytes(b"no picture")
    for n, name in enumerate(["turned.jpg", "small.jpg", "broken.jpg", "gone.jpg"]):
        document["images"].append({"id": 20 + n, "file_name": name, "width": W, "height": H})
    file.write_text(json.dumps(document))
    data = read_dataset(folder)
    assert [p.path.name for p in data.pictures] == ["a.jpg"]
    text = "\n".join(data.left_out)
    assert len(data.left_out) == 4
    assert "upright by its EXIF data" in text
    assert "small.jpg is 100x100, its labels are for 200x100" in text
    assert "broken.jpg: not a readable picture" in text
    assert "no picture 'gone.jpg'" in text


def test_a_box_outside_its_picture_is_an_error_and_one_over_its_edge_is_cut(tmp_path: Path) -> None:
    folder = as_coco(tmp_path)
    file = folder / "annotations.json"
    document = json.loads(file.read_text())
    document["annotations"][0]["bbox"] = [-5, 10, 40, 50]
    file.write_text(json.dumps(document))
    assert read_dataset(folder).pictures[0].boxes_px[0].tolist() == [0, 10, 35, 60]
    document["annotations"][0]["bbox"] = [W + 5, 10, 40, 50]
    file.write_text(json.dumps(document))
    with pytest.raises(BadInput, match=r"annotations\[0\]: box \[205.0, .* lies outside its picture a.jpg"):
        read_dataset(folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [("[1, 2]", "expected a Label Studio JSON export"), ("{", "line 1, column 2: not JSON"), ("{}", "expected COCO")],
)
def test_other_json_is_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(BadInput, match=said):
        read_dataset(tmp_path / "x.json")


def test_a_folder_without_labels_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no labels; expected annotations.json"):
        read_dataset(tmp_path)
    with pytest.raises(BadInput, match="no such data folder"):
        read_dataset(tmp_path / "nowhere")


def drafted(path: Path) -> Labelled:
    boxes = np.array([b for b, _ in BOXES] + [(120, 5, 190, 60)], np.float32)
    return Labelled(path, boxes, np.array([0, 0, 1, IGNORE]), W, H, ("product", "product", "price_tag", "ignore"))


@pytest.mark.parametrize("way", ["coco", "cvat", "label studio"])
def test_drafts_come_back_as_they_went(tmp_path: Path, way: str) -> None:
    one = drafted(picture(tmp_path / "images" / "a & b.jpg"))
    name = one.path.name
    if way == "coco":
        (tmp_path / "annotations.json").write_text(json.dumps(coco.document([(name, one)])))
    elif way == "cvat":
        (tmp_path / "annotations.xml").write_text(cvat.document([(name, one)]))
    else:
        (task,) = label_studio.tasks([(f"images/{name}", one, [0.9, 0.8, 0.7, 0.6])], "a model")
        # What a person does: accepts the drafts and submits them.
        accepted = {"id": 1, "data": task["data"], "annotations": [{"result": task["predictions"][0]["result"]}]}
        (tmp_path / "export.json").write_text(json.dumps([accepted]))
    (back,) = read_dataset(tmp_path).pictures
    np.testing.assert_allclose(back.boxes_px, one.boxes_px, atol=0.02)
    assert back.classes.tolist() == one.classes.tolist()


def data(*pictures: Labelled) -> Dataset:
    return Dataset(Path("given"), "COCO", pictures)


def test_merging_adds_replaces_and_keeps_names(tmp_path: Path) -> None:
    a, b = picture(tmp_path / "in" / "a.jpg"), picture(tmp_path / "in" / "b.jpg", 40)
    into = tmp_path / "set"
    first = Labelled(a, np.array([[1, 2, 30, 40]], np.float32), np.array([0]), W, H, ("cola 33cl",))
    done = merge(data(first), into)
    assert (done.added, done.replaced, done.total, done.boxes) == (1, 0, 1, 1)
    # Another file with the name of one that is there, and new labels for the latter under another name.
    other = picture(tmp_path / "in2" / "a.jpg", 70)
    again = tmp_path / "in2" / "renamed.jpg"
    again.write_bytes(a.read_bytes())
    done = merge(data(drafted(b), drafted(other), drafted(again)), into)
    assert (done.added, done.replaced, done.total) == (2, 1, 3)
    back = read_dataset(into)
    assert len(back.pictures) == 3
    assert len({p.path.read_bytes() for p in back.pictures}) == 3
    assert all(len(p.boxes_px) == 4 for p in back.pictures)
    assert merge(data(drafted(b)), into).unchanged == 1


def test_a_damaged_data_set_is_not_merged_into(tmp_path: Path) -> None:
    into = as_coco(tmp_path / "set")
    before = (into / "annotations.json").read_bytes()
    (into / "images" / "a.jpg").unlink()
    with pytest.raises(BadInput, match="no picture that could be used"):
        merge(data(drafted(picture(tmp_path / "b.jpg", 40))), into)
    assert (into / "annotations.json").read_bytes() == before
    assert list((into / "images").iterdir()) == []
