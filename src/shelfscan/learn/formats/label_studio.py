"""Label Studio: its JSON export (also of tasks that only have predictions), and tasks with drafts to import there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from shelfscan.errors import BadInput
from shelfscan.learn.datasets import IGNORE, Labelled, RawBox, RawPicture, RawSet
from shelfscan.model.detections import DetectionClass

#: The labelling interface that drafts are made for: paste it into the project's settings.
CONFIG = """<View>
  <Image name="image" value="$image" zoom="true"/>
  <RectangleLabels name="label" toName="image">
    <Label value="product" background="#2ca02c"/>
    <Label value="price_tag" background="#1f77b4"/>
    <Label value="empty" background="#d62728"/>
    <Label value="ignore" background="#7f7f7f"/>
  </RectangleLabels>
</View>
"""
#: Result types that are boxes or can be bounded by one; others that come along (choices, texts, ratings) say nothing of boxes.
SHAPES = {"rectanglelabels", "rectangle", "polygonlabels", "polygon"}
UNFIT = {"ellipselabels", "ellipse", "brushlabels", "brush", "keypointlabels", "keypoint"}


def read(path: Path, data: object) -> RawSet:
    """Pictures of a parsed export: of each task its first annotation that was not cancelled. Raises `BadInput`.

    A task without such an annotation has not been looked at by anyone: it is counted in ``bare``, drafts or not.
    """
    if not isinstance(data, list) or not data or not all(isinstance(t, dict) for t in data):
        raise BadInput(f"{path}: expected a Label Studio JSON export, a list of tasks, or COCO, an object")
    problems: list[str] = []
    pictures: list[RawPicture] = []
    bare = 0
    for n, task in enumerate(data):
        where = f"{path}: task {task.get('id', n)}"
        if "annotations" not in task and "completions" not in task and "predictions" not in task:
            problems.append(f"{where}: no annotations; export as JSON, not as JSON-MIN")
            continue
        name = _picture_name(task.get("data"))
        if name is None:
            problems.append(f"{where}: data: expected the picture's address under 'image'")
            continue
        done = task.get("annotations") or task.get("completions") or []
        done = [a for a in done if isinstance(a, dict) and not a.get("was_cancelled")]
        if not done:
            bare += 1
            continue
        boxes, size, faults = _boxes(where, done[0].get("result"))
        problems += faults
        pictures.append(RawPicture(name, where, tuple(boxes), size, relative=True))
    if problems:
        raise BadInput(problems)
    if not pictures:
        raise BadInput(f"{path}: none of its {bare} tasks has an annotation that was submitted")
    return RawSet("Label Studio", tuple(pictures), bare)


def _picture_name(data: object) -> str | None:
    if not isinstance(data, dict):
        return None
    values = [data["image"]] if isinstance(data.get("image"), str) else [v for v in data.values() if isinstance(v, str)]
    if not values:
        return None
    parts = urlsplit(values[0])
    inner = parse_qs(parts.query).get("d")
    return inner[0] if inner else unquote(parts.path) or None


def _boxes(where: str, result: object) -> tuple[list[RawBox], tuple[int, int] | None, list[str]]:
    if not isinstance(result, list):
        return [], None, [f"{where}: annotations: result: expected a list"]
    boxes: list[RawBox] = []
    problems: list[str] = []
    size: tuple[int, int] | None = None
    for n, item in enumerate(result):
        at = f"{where}: result[{n}]"
        kind = str(item.get("type", "")) if isinstance(item, dict) else ""
        if kind in UNFIT:
            problems.append(f"{at}: type {kind}: only rectangles and polygons are read")
            continue
        if kind not in SHAPES:
            continue
        w, h = item.get("original_width"), item.get("original_height")
        if isinstance(w, int) and isinstance(h, int) and w > 0 and h > 0:
            size = (w, h)
        if item.get("image_rotation"):
            problems.append(f"{at}: image_rotation {item['image_rotation']}: turn the picture itself before labelling it")
            continue
        value = item.get("value")
        corners = _corners(value, size or (1, 1))
        if corners is None or not isinstance(value, dict):
            problems.append(f"{at}: value: expected x, y, width and height in percent, or points")
            continue
        labels = value.get("rectanglelabels") or value.get("polygonlabels") or value.get("labels") or ["product"]
        xs, ys = [c[0] for c in corners], [c[1] for c in corners]
        boxes.append(RawBox((min(xs), min(ys), max(xs), max(ys)), str(labels[0]), at))
    return boxes, size, problems


def _corners(value: object, size: tuple[int, int]) -> list[tuple[float, float]] | None:
    """Corners of a shape in 0..1; a rectangle is turned about its top left corner, in pixels."""
    if not isinstance(value, dict):
        return None
    try:
        if "points" in value:
            points = [(float(x) / 100, float(y) / 100) for x, y in value["points"]]
            return points if len(points) >= 3 and all(math.isfinite(v) for p in points for v in p) else None
        x, y, w, h = (float(value[k]) / 100 for k in ("x", "y", "width", "height"))
        turn = math.radians(float(value.get("rotation") or 0))
    except (KeyError, TypeError, ValueError):
        return None
    if not all(math.isfinite(v) for v in (x, y, w, h, turn)) or w <= 0 or h <= 0:
        return None
    px, py = size
    c, s = math.cos(turn), math.sin(turn)
    corners = ((0.0, 0.0), (w * px, 0.0), (w * px, h * py), (0.0, h * py))
    return [(x + (a * c - b * s) / px, y + (a * s + b * c) / py) for a, b in corners]


def tasks(pictures: Sequence[tuple[str, Labelled, Sequence[float]]], model: str) -> list[dict[str, Any]]:
    """Tasks with drafts as predictions: (path below the local files' root, picture, score of each box)."""
    out: list[dict[str, Any]] = []
    for name, p, scores in pictures:
        result = []
        for n, (box, cls, score) in enumerate(zip(p.boxes_px.tolist(), p.classes.tolist(), scores, strict=True)):
            x0, y0, x1, y1 = box
            label = "ignore" if cls == IGNORE else DetectionClass(cls).name.lower()
            result.append(
                {
                    "id": f"box{n}",
                    "type": "rectanglelabels",
                    "from_name": "label",
                    "to_name": "image",
                    "original_width": p.width_px,
                    "original_height": p.height_px,
                    "image_rotation": 0,
                    "score": round(float(score), 4),
                    "value": {
                        "x": round(100 * x0 / p.width_px, 4),
                        "y": round(100 * y0 / p.height_px, 4),
                        "width": round(100 * (x1 - x0) / p.width_px, 4),
                        "height": round(100 * (y1 - y0) / p.height_px, 4),
                        "rotation": 0,
                        "rectanglelabels": [label],
                    },
                }
            )
        mean = round(float(sum(scores) / len(scores)), 4) if len(scores) else 0.0
        prediction = {"model_version": model, "score": mean, "result": result}
        out.append({"data": {"image": f"/data/local-files/?d={quote(name)}"}, "predictions": [prediction]})
    return out
