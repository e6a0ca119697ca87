"""Labelled data as it lies on disk. What is missing or wrong in a label file ends the measurement and is named; a picture
that cannot be read is named, counted and left out.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shelfscan.adapters.pictures import read_picture
from shelfscan.errors import BadInput
from shelfscan.model.imaging import Rgb

#: Told (what is being worked on, done in 0..1).
Report = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class LabelledBox:
    """``box_px`` is x_min, y_min, x_max, y_max; ``ignore``: neither right nor wrong to find; ``price`` empty when unknown."""

    annotation_id: int
    box_px: tuple[float, float, float, float]
    category: str
    ignore: bool = False
    price: str = ""


@dataclass(frozen=True)
class LabelledPicture:
    """A picture file and the boxes on it."""

    path: Path
    boxes: tuple[LabelledBox, ...]


@dataclass
class Unreadable:
    """The pictures that were left out, one line each."""

    problems: list[str] = field(default_factory=list)

    def read(self, path: Path) -> Rgb | None:
        """The picture, or None when it cannot be read, which is noted."""
        try:
            return read_picture(path)
        except BadInput as e:
            self.problems += e.problems
            return None

    def none_left(self) -> BadInput:
        """The error when there was no picture that could be read."""
        return BadInput(self.problems or ["there is no picture to measure on"])


def need_folder(path: Path) -> Path:
    """The folder itself. Raises `BadInput` when there is none."""
    if not path.is_dir():
        raise BadInput(f"{path}: no such data folder")
    return path


def read_json(path: Path, expected: str) -> Any:
    """A JSON file. Raises `BadInput` that says what was ``expected`` when it is absent or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; expected {expected}") from None
    except (OSError, ValueError) as e:
        raise BadInput(f"{path}: not readable as JSON: {e}; expected {expected}") from e


def read_rows(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """(line number, row) of a CSV file that has these columns. Raises `BadInput` naming file, line and column."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as f:
            reader = csv.DictReader(f)
            missing = [c for c in columns if c not in (reader.fieldnames or ())]
            if missing:
                raise BadInput(f"{path}: line 1: missing column {', '.join(missing)}; expected {', '.join(columns)}")
            rows = [(reader.line_num, {c: (row[c] or "").strip() for c in columns}) for row in reader]
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; expected columns {', '.join(columns)}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise BadInput(f"{path}: not readable as CSV: {e}") from e
    if not rows:
        raise BadInput(f"{path}: no rows; expected columns {', '.join(columns)}")
    return rows


def read_coco(folder: Path) -> list[LabelledPicture]:
    """``folder/annotations.json`` (COCO) with pictures in ``folder/images``, by file name.

    Boxes marked ``iscrowd`` or ``ignore``, and those of categories whose name starts with ``__``, are to be ignored.
    Raises `BadInput` with every problem of the file.
    """
    path = need_folder(folder) / "annotations.json"
    data = read_json(path, "COCO with images, annotations and categories")
    if not isinstance(data, dict) or not all(isinstance(data.get(k), list) for k in ("images", "annotations")):
        raise BadInput(f"{path}: expected COCO: an object with the lists images and annotations")
    problems: list[str] = []
    categories: dict[Any, str] = {}
    for n, entry in enumerate(data.get("categories") or []):
        try:
            categories[entry["id"]] = str(entry["name"])
        except (TypeError, KeyError):
            problems.append(f"{path}: categories[{n}]: expected id and name")
    files: dict[Any, Path] = {}
    boxes: dict[Any, list[LabelledBox]] = {}
    for n, entry in enumerate(data["images"]):
        try:
            files[entry["id"]] = folder / "images" / str(entry["file_name"])
        except (TypeError, KeyError):
            problems.append(f"{path}: images[{n}]: expected id and file_name")
    for n, entry in enumerate(data["annotations"]):
        try:
            box, image = _labelled(entry, categories), entry["image_id"]
        except (TypeError, KeyError, ValueError):
            problems.append(f"{path}: annotations[{n}]: expected id, image_id and bbox [x, y, width, height] of positive size")
            continue
        if image not in files:
            problems.append(f"{path}: annotations[{n}]: image_id {image} is not among the images")
            continue
        boxes.setdefault(image, []).append(box)
    if problems:
        raise BadInput(problems)
    if not files:
        raise BadInput(f"{path}: no images")
    return [LabelledPicture(file, tuple(boxes.get(i, ()))) for i, file in sorted(files.items(), key=lambda x: str(x[1]))]


def _labelled(entry: Any, categories: dict[Any, str]) -> LabelledBox:
    x, y, w, h = (float(v) for v in entry["bbox"])
    if not all(math.isfinite(v) for v in (x, y, w, h)) or w <= 0 or h <= 0:
        raise ValueError("bbox")
    category = categories.get(entry.get("category_id"), "")
    ignore = bool(entry.get("iscrowd")) or bool(entry.get("ignore")) or category.startswith("__")
    return LabelledBox(int(entry["id"]), (x, y, x + w, y + h), category, ignore, str(entry.get("price") or ""))


def pictures_of(labelled: Sequence[LabelledPicture], bad: Unreadable, report: Report) -> Iterator[tuple[LabelledPicture, Rgb]]:
    """The readable ones, one at a time, so that memory stays that of one picture."""
    for n, item in enumerate(labelled):
        report(item.path.name, n / len(labelled))
        picture = bad.read(item.path)
        if picture is not None:
            yield item, picture


def cut(picture: Rgb, box_px: tuple[float, float, float, float], pad: float = 0.0) -> Rgb:
    """The part of a picture in a box, widened by ``pad`` of its width on every side and clipped at the borders."""
    x0, y0, x1, y1 = box_px
    p = pad * (x1 - x0)
    return picture[max(0, int(y0 - p)) : math.ceil(y1 + p), max(0, int(x0 - p)) : math.ceil(x1 + p)]


def median(values: Sequence[float], digits: int = 2) -> float | None:
    """Rounded; None of nothing."""
    return round(float(np.median(values)), digits) if len(values) else None


def ratio(part: float, whole: float, digits: int = 4) -> float | None:
    """Rounded; None when there is nothing to have a share of."""
    return round(part / whole, digits) if whole else None
