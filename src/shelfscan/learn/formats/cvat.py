"""CVAT for images 1.1: one XML file with boxes (and polygons, which count as their bounds) a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from shelfscan.errors import BadInput
from shelfscan.learn.datasets import IGNORE, Labelled, RawBox, RawPicture, RawSet
from shelfscan.model.detections import DetectionClass

UNFIT = {"polyline", "points", "mask", "ellipse", "cuboid", "skeleton"}


class _Reader:
    """Collects pictures while the parser goes through the file; knows the line it is at."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[str] = []
        self.pictures: list[RawPicture] = []
        self.root = ""
        self._open: tuple[str, str, tuple[int, int]] | None = None
        self._boxes: list[RawBox] = []
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.EntityDeclHandler = self.entity

    def entity(self, *_: object) -> None:
        raise BadInput(f"{self.path}: line {self.parser.CurrentLineNumber}: entity declarations are not read")

    def start(self, tag: str, given: dict[str, str]) -> None:
        self.root = self.root or tag
        where = f"{self.path}: line {self.parser.CurrentLineNumber}"
        if tag == "image":
            self._boxes = []
            try:
                size = (int(given["width"]), int(given["height"]))
                if not given["name"] or min(size) <= 0:
                    raise ValueError
                self._open = (given["name"], where, size)
            except (KeyError, ValueError):
                self._open = None
                self.problems.append(f"{where}: image: expected name, width and height")
        elif self._open is None:
            return
        elif tag in UNFIT:
            self.problems.append(f"{where}: {tag}: only box and polygon are read")
        elif tag in ("box", "polygon"):
            try:
                corners = _turned(given) if tag == "box" else _points(given["points"])
            except (KeyError, ValueError):
                what = "xtl, ytl, xbr, ybr of positive size" if tag == "box" else "points"
                self.problems.append(f"{where}: {tag}: expected label and {what} in pixels")
                return
            if not given.get("label"):
                self.problems.append(f"{where}: {tag}: expected a label")
                return
            xs, ys = [c[0] for c in corners], [c[1] for c in corners]
            self._boxes.append(RawBox((min(xs), min(ys), max(xs), max(ys)), given["label"], where))

    def end(self, tag: str) -> None:
        if tag == "image" and self._open is not None:
            name, where, size = self._open
            self.pictures.append(RawPicture(name, where, tuple(self._boxes), size))
            self._open = None


def _turned(given: dict[str, str]) -> list[tuple[float, float]]:
    """Corners of a box in pixels; CVAT turns it about its centre."""
    x0, y0, x1, y1 = (float(given[k]) for k in ("xtl", "ytl", "xbr", "ybr"))
    turn = math.radians(float(given.get("rotation") or 0))
    if not all(math.isfinite(v) for v in (x0, y0, x1, y1, turn)) or x1 <= x0 or y1 <= y0:
        raise ValueError
    cx, cy, c, s = (x0 + x1) / 2, (y0 + y1) / 2, math.cos(turn), math.sin(turn)
    around = [(x - cx, y - cy) for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]
    return [(cx + a * c - b * s, cy + a * s + b * c) for a, b in around]


def _points(text: str) -> list[tuple[float, float]]:
    points = [(float(x), float(y)) for x, y in (p.split(",") for p in text.split(";") if p)]
    if len(points) < 3 or not all(math.isfinite(v) for p in points for v in p):
        raise ValueError
    return points


def read(path: Path) -> RawSet:
    """Pictures of an ``annotations.xml``. Raises `BadInput` naming each wrong line."""
    reader = _Reader(path)
    try:
        reader.parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as e:
        raise BadInput(f"{path}: line {e.lineno}, column {e.offset}: not XML: {expat.errors.messages[e.code]}") from e
    except OSError as e:
        raise BadInput(f"{path}: cannot be read: {e.strerror}") from e
    if reader.root != "annotations":
        raise BadInput(f"{path}: expected <annotations> (CVAT for images 1.1), found <{reader.root}>")
    if reader.problems:
        raise BadInput(reader.problems)
    if not reader.pictures:
        raise BadInput(f"{path}: no <image>; export as 'CVAT for images 1.1'")
    return RawSet("CVAT", tuple(reader.pictures))


def document(pictures: Sequence[tuple[str, Labelled]]) -> str:
    """An ``annotations.xml`` of pictures by the file name they have in the task."""
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "  <version>1.1</version>"]
    for n, (name, p) in enumerate(pictures):
        lines.append(f'  <image id="{n}" name={quoteattr(name)} width="{p.width_px}" height="{p.height_px}">')
        for (x0, y0, x1, y1), cls in zip(p.boxes_px.tolist(), p.classes.tolist(), strict=True):
            label = "ignore" if cls == IGNORE else DetectionClass(cls).name.lower()
            box = f'xtl="{x0:.2f}" ytl="{y0:.2f}" xbr="{x1:.2f}" ybr="{y1:.2f}"'
            lines.append(f'    <box label="{label}" source="auto" occluded="0" {box} z_order="0"></box>')
        lines.append("  </image>")
    return "\n".join([*lines, "</annotations>", ""])
