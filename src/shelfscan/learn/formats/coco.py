"""COCO detection labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shelfscan.errors import BadInput
from shelfscan.learn.datasets import IGNORE, Labelled, RawBox, RawPicture, RawSet
from shelfscan.model.detections import DetectionClass

#: Categories that every file has; the products' own names follow.
USUAL = (*(c.name.lower() for c in DetectionClass), "ignore")


def read(path: Path, data: dict[str, Any]) -> RawSet:
    """Pictures and boxes of a parsed file. ``iscrowd`` and ``ignore`` mark boxes to be ignored. Raises `BadInput`."""
    problems = [f"{path}: {k}: expected a list" for k in ("images", "annotations") if not isinstance(data.get(k), list)]
    if problems:
        raise BadInput([f"{path}: expected COCO, an object with images, annotations and categories", *problems])
    names: dict[Any, str] = {}
    for n, entry in enumerate(data.get("categories") or []):
        if isinstance(entry, dict) and "id" in entry and "name" in entry:
            names[entry["id"]] = str(entry["name"])
        else:
            problems.append(f"{path}: categories[{n}]: expected id and name")
    boxes: dict[Any, list[RawBox]] = {}
    order: list[tuple[Any, str, str, tuple[int, int] | None]] = []
    for n, entry in enumerate(data["images"]):
        where = f"{path}: images[{n}]"
        if not isinstance(entry, dict) or "id" not in entry or not str(entry.get("file_name") or ""):
            problems.append(f"{where}: expected id and file_name")
            continue
        if entry["id"] in boxes:
            problems.append(f"{where}.id: {entry['id']} is there twice")
            continue
        boxes[entry["id"]] = []
        w, h = entry.get("width"), entry.get("height")
        sized = isinstance(w, int) and isinstance(h, int) and w > 0 and h > 0
        order.append((entry["id"], str(entry["file_name"]), where, (int(w), int(h)) if sized else None))  # type: ignore[arg-type]
    for n, entry in enumerate(data["annotations"]):
        where = f"{path}: annotations[{n}]"
        if not isinstance(entry, dict):
            problems.append(f"{where}: expected image_id, category_id and bbox")
            continue
        image, category = entry.get("image_id"), entry.get("category_id")
        if image not in boxes:
            problems.append(f"{where}.image_id: {image!r} is not among the images")
        if category not in names:
            problems.append(f"{where}.category_id: {category!r} is not among the categories")
        box = entry.get("bbox")
        if not _is_box(box):
            problems.append(f"{where}.bbox: expected [x, y, width, height] of positive size in pixels, found {box!r}")
        elif image in boxes and category in names:
            x, y, w, h = (float(v) for v in entry["bbox"])
            ignore = bool(entry.get("iscrowd")) or bool(entry.get("ignore"))
            boxes[image].append(RawBox((x, y, x + w, y + h), names[category], where, ignore))
    if problems:
        raise BadInput(problems)
    pictures = tuple(RawPicture(name, where, tuple(boxes[i]), size) for i, name, where, size in order)
    return RawSet("COCO", pictures)


def _is_box(box: object) -> bool:
    if not isinstance(box, list) or len(box) != 4:
        return False
    return all(isinstance(v, (int, float)) and math.isfinite(v) for v in box) and box[2] > 0 and box[3] > 0


def document(pictures: Sequence[tuple[str, Labelled]]) -> dict[str, Any]:
    """A COCO document of pictures by the file name they shall have in it; products keep the names they have."""
    given = {n for _, p in pictures for n, c in zip(p.names, p.classes.tolist(), strict=True) if _named(n, c) == n}
    ids = {name: n for n, name in enumerate([*USUAL, *sorted(given - set(USUAL))])}
    out: dict[str, Any] = {
        "images": [], "annotations": [], "categories": [{"id": i, "name": name} for name, i in ids.items()],
    }  # fmt: skip
    for image_id, (file, p) in enumerate(pictures, start=1):
        out["images"].append({"id": image_id, "file_name": file, "width": p.width_px, "height": p.height_px})
        for (x0, y0, x1, y1), cls, name in zip(p.boxes_px.tolist(), p.classes.tolist(), p.names, strict=True):
            w, h = round(x1 - x0, 2), round(y1 - y0, 2)
            out["annotations"].append(
                {
                    "id": len(out["annotations"]) + 1,
                    "image_id": image_id,
                    "category_id": ids[_named(name, cls)],
                    "bbox": [round(x0, 2), round(y0, 2), w, h],
                    "area": round(w * h, 2),
                    "iscrowd": int(cls == IGNORE),
                }
            )
    return out


def _named(name: str, cls: int) -> str:
    """A box's category: a product's own name, the usual one of the other classes."""
    return "ignore" if cls == IGNORE else (name or "product") if cls == 0 else DetectionClass(cls).name.lower()
