"""YOLO text labels: one line a box, ``class x_centre y_centre width height`` in 0..1; polygons count as their bounds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from shelfscan import inputs
from shelfscan.adapters.pictures import SUFFIXES
from shelfscan.errors import BadInput
from shelfscan.learn.datasets import RawBox, RawPicture, RawSet


def _names(path: Path, data: dict[str, Any]) -> dict[int, str]:
    """Class names by number: a list, or a mapping of numbers."""
    names = data.get("names")
    if isinstance(names, list) and names:
        return {i: str(n) for i, n in enumerate(names)}
    if isinstance(names, dict) and names and all(isinstance(k, int) for k in names):
        return {int(k): str(v) for k, v in names.items()}
    raise BadInput(f"{path}: names: expected the classes' names, a list or a mapping from 0 on")


def read_yaml(path: Path) -> RawSet:
    """All pictures of a ``data.yaml`` (train, val and test alike: what is held out is decided here). Raises `BadInput`."""
    data = inputs.read_yaml(path, "YOLO data file")
    if not isinstance(data, dict):
        raise BadInput(f"{path}: expected fields (names, train, val), found {type(data).__name__}")
    names = _names(path, data)
    root = path.parent
    if data.get("path"):
        given = Path(str(data["path"]))
        # An export names the folder it was made in; the file's own folder is where it is now.
        root = given if given.is_absolute() and given.is_dir() else root / given if (root / given).is_dir() else root
    folders: list[Path] = []
    problems: list[str] = []
    for key in ("train", "val", "test"):
        for entry in _as_list(data.get(key)):
            options = [root / entry, path.parent / str(entry).removeprefix("../")]
            folder = next((o for o in options if o.is_dir()), None)
            if folder is None:
                problems.append(f"{path}: {key}: {entry}: no such folder of pictures")
            elif folder not in folders:
                folders.append(folder)
    if problems:
        raise BadInput(problems)
    if not folders:
        raise BadInput(f"{path}: expected train, val or test with a folder of pictures")
    return _read([(p, _label_of(p)) for f in folders for p in _pictures(f)], names, path)


def read_folder(folder: Path) -> RawSet:
    """``folder/images`` and ``folder/labels``, with names in ``classes.txt`` or, without one, only class 0 (product)."""
    images = folder / "images" if (folder / "images").is_dir() else folder
    pairs = [(p, folder / "labels" / p.relative_to(images).with_suffix(".txt")) for p in _pictures(images)]
    if not pairs:
        raise BadInput(f"{images}: no pictures beside {folder / 'labels'}")
    names = {0: "product"}
    for file in (folder / "classes.txt", folder / "labels" / "classes.txt"):
        if file.is_file():
            lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
            names = {i: n for i, n in enumerate(lines) if n}
            break
    return _read(pairs, names, folder)


def _as_list(value: Any) -> list[str]:
    return [] if value is None else [str(v) for v in value] if isinstance(value, list) else [str(value)]


def _pictures(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix.lower() in SUFFIXES)


def _label_of(picture: Path) -> Path:
    """``…/images/…/x.jpg`` → ``…/labels/…/x.txt``; the last folder of that name counts."""
    parts = list(picture.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _read(pairs: list[tuple[Path, Path]], names: dict[int, str], source: Path) -> RawSet:
    problems: list[str] = []
    pictures: list[RawPicture] = []
    bare = 0
    for picture, labels in pairs:
        if not labels.is_file():
            bare += 1  # Not labelled yet, which is not the same as labelled "nothing here" (an empty file).
            continue
        boxes, faults = _boxes(labels, names)
        problems += faults
        pictures.append(RawPicture(str(picture.resolve()), str(labels), tuple(boxes), relative=True))
    if problems:
        raise BadInput(problems)
    if not pictures:
        raise BadInput(f"{source}: no picture has a label file (labels/<name>.txt)")
    return RawSet("YOLO", tuple(pictures), bare)


def _boxes(path: Path, names: dict[int, str]) -> tuple[list[RawBox], list[str]]:
    boxes: list[RawBox] = []
    problems: list[str] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        return [], [f"{path}: cannot be read: {e}"]
    for n, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields:
            continue
        where = f"{path}: line {n}"
        try:
            values = [float(v) for v in fields]
        except ValueError:
            problems.append(f"{where}: expected numbers: class x_centre y_centre width height, found {line.strip()[:60]!r}")
            continue
        cls, rest = values[0], values[1:]
        if not cls.is_integer() or int(cls) not in names:
            problems.append(f"{where}: class {fields[0]}: not among the names ({', '.join(map(str, sorted(names)))})")
        elif len(rest) == 4 and all(math.isfinite(v) for v in rest) and rest[2] > 0 and rest[3] > 0 and max(rest) <= 1.0001:
            x, y, w, h = rest
            boxes.append(RawBox((x - w / 2, y - h / 2, x + w / 2, y + h / 2), names[int(cls)], where))
        elif len(rest) >= 6 and len(rest) % 2 == 0 and all(0 <= v <= 1.0001 for v in rest):
            xs, ys = rest[::2], rest[1::2]
            boxes.append(RawBox((min(xs), min(ys), max(xs), max(ys)), names[int(cls)], where))
        else:
            problems.append(f"{where}: expected class x_centre y_centre width height in 0..1, found {line.strip()[:60]!r}")
    return boxes, problems
