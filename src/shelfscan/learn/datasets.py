"""Labelled pictures of any of four formats as one type: COCO, YOLO, Label Studio (JSON) and CVAT for images (XML 1.1).

What is wrong in a label file is said all at once, each line naming file, place and field, and ends the reading. What is
wrong with a single picture (missing, not a picture, labelled at another size) is said in ``left_out``, and the others go on.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from shelfscan.errors import BadInput
from shelfscan.model.detections import DetectionClass

#: Class of a box that is neither right nor wrong to find.
IGNORE = -1
#: Other words for the classes that are no product, lower case, blanks and dashes as underscores.
TAG_WORDS = frozenset({"price_tag", "pricetag", "price", "tag", "shelf_label", "label", "esl"})
EMPTY_WORDS = frozenset({"empty", "empty_space", "empty_place", "gap", "void", "out_of_stock", "oos"})
IGNORE_WORDS = frozenset({"ignore", "ignored", "crowd", "unsure"})
#: Sizes that differ by more pixels than this are different pictures.
SIZE_SLACK_PX = 2
#: Labelling tools give a picture's file this much of a name in front: eight hexadecimal digits and a dash.
UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")


def class_of(name: str) -> int:
    """What a label's name means: a price tag, an empty place, something to ignore (``__…`` too); all else is a product."""
    word = name.strip().lower().replace(" ", "_").replace("-", "_")
    if word.startswith("__") or word in IGNORE_WORDS:
        return IGNORE
    if word in TAG_WORDS:
        return int(DetectionClass.PRICE_TAG)
    return int(DetectionClass.EMPTY) if word in EMPTY_WORDS else int(DetectionClass.PRODUCT)


@dataclass(frozen=True, slots=True)
class RawBox:
    """A box as a file has it: ``box`` x_min, y_min, x_max, y_max in pixels, or in 0..1 where the picture says so."""

    box: tuple[float, float, float, float]
    label: str
    where: str
    ignore: bool = False


@dataclass(frozen=True, slots=True)
class RawPicture:
    """A picture as a file names it; ``size`` width and height in pixels where the file says them."""

    name: str
    where: str
    boxes: tuple[RawBox, ...]
    size: tuple[int, int] | None = None
    relative: bool = False


@dataclass(frozen=True)
class RawSet:
    """What a format's reader found. ``bare`` pictures have no labels at all (not the same as having none to give)."""

    format: str
    pictures: tuple[RawPicture, ...]
    bare: int = 0


@dataclass(frozen=True, eq=False)
class Labelled:
    """A picture that is there, with ``boxes_px`` (N, 4) float32 upright pixels and ``classes`` (N,) int64, -1 to be ignored.

    ``names`` are the N labels as they were given: a product's may be its SKU.
    """

    path: Path
    boxes_px: NDArray[np.float32]
    classes: NDArray[np.int64]
    width_px: int
    height_px: int
    names: tuple[str, ...]

    def count(self, cls: DetectionClass) -> int:
        """Boxes of a class."""
        return int((self.classes == int(cls)).sum())


@dataclass(frozen=True)
class Dataset:
    """Labelled pictures; ``left_out`` says, one line each, which of the file's pictures are not among them and why."""

    source: Path
    format: str
    pictures: tuple[Labelled, ...]
    left_out: list[str] = field(default_factory=list)

    @property
    def labelled_classes(self) -> tuple[DetectionClass, ...]:
        """Classes that have a box anywhere: of the others nothing was said."""
        return tuple(c for c in DetectionClass if any(p.count(c) for p in self.pictures))


def read_dataset(path: Path, images: Path | None = None) -> Dataset:
    """Read a label file, or a folder with one; ``images``: where the pictures are when not beside it.

    Raises `BadInput` with every problem of the file, and when no picture is left.
    """
    raw = read_raw(path)
    file = label_file(path)
    folder = file if file.is_dir() else file.parent
    places = [images] if images is not None else [folder / "images", folder]
    if images is None and folder.name == "annotations":
        places += [folder.parent / "images", folder.parent]
    return resolve(raw, path, [p for p in places if p.is_dir()])


def read_raw(path: Path) -> RawSet:
    """The label file's content by the format it turns out to have. Raises `BadInput`."""
    from shelfscan.learn.formats import coco, cvat, label_studio, yolo

    file = label_file(path)
    if file.is_dir():
        return yolo.read_folder(file)
    if file.suffix in (".yaml", ".yml"):
        return yolo.read_yaml(file)
    if file.suffix == ".xml":
        return cvat.read(file)
    data = read_json(file)
    if isinstance(data, dict):
        return coco.read(file, data)
    return label_studio.read(file, data)


def label_file(path: Path) -> Path:
    """The file with the labels: ``path`` itself, or what a folder holds (the folder of YOLO without a file)."""
    if path.is_file():
        if path.suffix not in (".json", ".xml", ".yaml", ".yml"):
            raise BadInput(f"{path}: expected .json (COCO, Label Studio), .xml (CVAT for images 1.1) or .yaml (YOLO)")
        return path
    if not path.is_dir():
        raise BadInput(f"{path}: no such data folder or label file")
    usual = (
        "annotations.json", "_annotations.coco.json", "annotations/instances_default.json", "annotations.xml",
        "data.yaml", "dataset.yaml", "data.yml",
    )  # fmt: skip
    for name in usual:
        if (path / name).is_file():
            return path / name
    if (path / "labels").is_dir():
        return path
    others = sorted(p for p in path.iterdir() if p.suffix in (".json", ".xml"))
    if len(others) == 1:
        return others[0]
    if others:
        raise BadInput(f"{path}: several label files ({', '.join(p.name for p in others)}); name the one that is meant")
    raise BadInput(
        f"{path}: no labels; expected annotations.json (COCO), data.yaml or images/ with labels/ (YOLO), "
        "a Label Studio export (.json) or annotations.xml (CVAT for images 1.1)"
    )


def read_json(path: Path) -> object:
    """A JSON file. Raises `BadInput` naming file and line."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as e:
        raise BadInput(f"{path}: line {e.lineno}, column {e.colno}: not JSON: {e.msg}") from e
    except (OSError, UnicodeDecodeError) as e:
        raise BadInput(f"{path}: cannot be read: {e}") from e


def resolve(raw: RawSet, source: Path, places: Sequence[Path]) -> Dataset:
    """Find each picture in one of the ``places`` and check its boxes against it. Raises `BadInput` as `read_dataset` does."""
    problems: list[str] = []
    left_out: list[str] = []
    found: list[Labelled] = []
    by_path: dict[Path, str] = {}
    for picture in raw.pictures:
        path = find_picture(picture.name, places)
        if path is None:
            left_out.append(f"{picture.where}: no picture {picture.name!r} in {', '.join(map(str, places)) or 'any folder'}")
            continue
        if path in by_path:
            problems.append(f"{picture.where}: labels picture {path.name} again, as {by_path[path]} does")
            continue
        by_path[path] = picture.where
        try:
            width, height = upright_size(path)
        except BadInput as e:
            left_out += e.problems
            continue
        if (wrong := _size_problem(picture, width, height)) is not None:
            left_out.append(f"{picture.where}: {path.name} {wrong}")
            continue
        labelled, faults = _checked(picture, path, width, height)
        problems += faults
        found.append(labelled)
    if problems:
        raise BadInput(problems)
    if not found:
        raise BadInput([*left_out, f"{source}: no picture that could be used"])
    return Dataset(source, raw.format, tuple(sorted(found, key=lambda p: str(p.path))), left_out)


def find_picture(name: str, places: Iterable[Path]) -> Path | None:
    """The file a label means: by its path below a place, else by its bare name, with or without an upload's prefix."""
    bare = name.replace("\\", "/").rsplit("/", 1)[-1]
    names = [name, bare]
    if UPLOAD_PREFIX.match(bare):
        names.append(UPLOAD_PREFIX.sub("", bare))
    if Path(name).is_absolute() and Path(name).is_file():
        return Path(name)
    for place in places:
        for candidate in names:
            relative = candidate.lstrip("/")
            if relative and ".." not in Path(relative).parts and (place / relative).is_file():
                return place / relative
    return None


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels with the EXIF rotation applied, from the file's head. Raises `BadInput`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(path)
        with picture:
            w, h = picture.size
            turned = picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as e:
        raise BadInput(f"{path}: not a readable picture: {e}") from e
    if w <= 0 or h <= 0:
        raise BadInput(f"{path}: an empty picture of {w}x{h}")
    return (h, w) if turned else (w, h)


def _size_problem(picture: RawPicture, width: int, height: int) -> str | None:
    if picture.size is None:
        return None
    w, h = picture.size
    if abs(w - width) <= SIZE_SLACK_PX and abs(h - height) <= SIZE_SLACK_PX:
        return None
    if picture.relative and abs(w / h - width / height) <= 0.02 * width / height:
        return None  # labels in shares of the picture hold for any size of it
    turned = abs(w - height) <= SIZE_SLACK_PX and abs(h - width) <= SIZE_SLACK_PX
    why = " (upright by its EXIF data; the labels are for it unturned)" if turned else ""
    return f"is {width}x{height}{why}, its labels are for {w}x{h}"


def _checked(picture: RawPicture, path: Path, width: int, height: int) -> tuple[Labelled, list[str]]:
    """Boxes in pixels, clipped at the picture's edges; and those that cannot be right."""
    problems: list[str] = []
    boxes: list[tuple[float, float, float, float]] = []
    classes: list[int] = []
    names: list[str] = []
    kx, ky = (width, height) if picture.relative else (1, 1)
    for raw in picture.boxes:
        x0, y0, x1, y1 = raw.box[0] * kx, raw.box[1] * ky, raw.box[2] * kx, raw.box[3] * ky
        cut = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
        inside = max(cut[2] - cut[0], 0.0) * max(cut[3] - cut[1], 0.0)
        if inside < 0.5 * (x1 - x0) * (y1 - y0):
            at = ", ".join(f"{v:.1f}" for v in (x0, y0, x1, y1))
            problems.append(f"{raw.where}: box [{at}] lies outside its picture {path.name} ({width}x{height})")
            continue
        boxes.append(cut)
        classes.append(IGNORE if raw.ignore else class_of(raw.label))
        names.append(raw.label)
    array = np.array(boxes, np.float32).reshape(-1, 4)
    return Labelled(path, array, np.array(classes, np.int64), width, height, tuple(names)), problems
