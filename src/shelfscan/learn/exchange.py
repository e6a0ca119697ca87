"""Pictures on their way to a labelling tool and back: the queue's folder, and labels merged into a data set.

A queue's folder has ``images/`` and the drafts three times over: ``label_studio.json`` (with ``label_config.xml``),
``annotations.xml`` (CVAT for images 1.1) and ``annotations.json`` (COCO); ``queue.csv`` says of every doubtful box why.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from shelfscan.errors import BadInput
from shelfscan.inputs import expect_writable
from shelfscan.learn.datasets import Dataset, Labelled, read_dataset
from shelfscan.learn.formats import coco, cvat, label_studio
from shelfscan.learn.queue import Reviewed
from shelfscan.model.detections import DetectionClass
from shelfscan.model.imaging import Rgb
from shelfscan.runfolder import write_atomic

COLUMNS = ("picture", "worth", "class", "x_min_px", "y_min_px", "x_max_px", "y_max_px", "score", "why", "weight")


@dataclass(frozen=True, eq=False)
class Queued:
    """A chosen picture: ``jpeg`` is what the tool shows, ``name`` its file name there, ``source`` where it is from."""

    name: str
    source: str
    jpeg: bytes
    width_px: int
    height_px: int
    reviewed: Reviewed


def queued(source: str, stem: str, picture: Rgb, reviewed: Reviewed) -> Queued:
    """A picture ready to be written: upright, as a JPEG, under a name that no other picture has."""
    ok, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    if not ok:
        raise BadInput(f"{source}: cannot be written as a JPEG")
    jpeg = data.tobytes()
    name = f"{stem}-{hashlib.sha256(jpeg).hexdigest()[:8]}.jpg"
    return Queued(name, source, jpeg, picture.shape[1], picture.shape[0], reviewed)


def write_queue(folder: Path, pictures: Sequence[Queued], model: str) -> None:
    """Write a queue's folder; the label files last. Raises `BadInput` when there is one already."""
    expect_writable(folder, folder=True)
    if (folder / "queue.csv").exists():
        raise BadInput(f"{folder}: holds a queue already; give another --out")
    for p in pictures:
        write_atomic(folder / "images" / p.name, p.jpeg)
    drafts = [(p.name, _labelled(p)) for p in pictures]
    scored = [(f"images/{p.name}", d, p.reviewed.drafts.scores.tolist()) for p, (_, d) in zip(pictures, drafts, strict=True)]
    write_atomic(folder / "label_config.xml", label_studio.CONFIG.encode())
    write_atomic(folder / "label_studio.json", json.dumps(label_studio.tasks(scored, model), indent=1).encode())
    write_atomic(folder / "annotations.xml", cvat.document(drafts).encode())
    write_atomic(folder / "annotations.json", json.dumps(coco.document(drafts), indent=1).encode())
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for p in pictures:
        for d in p.reviewed.doubts:
            box = [round(v, 1) for v in d.box_px]
            row = [p.name, round(p.reviewed.worth, 4), d.cls.name, *box, round(d.score, 4), d.why, round(d.weight, 3)]
            table.writerow(row)
    write_atomic(folder / "queue.csv", text.getvalue().encode())


def _labelled(p: Queued) -> Labelled:
    found = p.reviewed.drafts
    names = tuple(DetectionClass(c).name.lower() for c in found.classes.tolist())
    boxes = found.boxes_px.clip(0, np.array([p.width_px, p.height_px] * 2, np.float32))
    return Labelled(Path(p.name), boxes, found.classes, p.width_px, p.height_px, names)


@dataclass(frozen=True)
class Merged:
    """What a merge did, in pictures; ``left_out`` says why others are not in the data set."""

    added: int
    replaced: int
    unchanged: int
    total: int
    boxes: int
    left_out: list[str]


def merge(data: Dataset, folder: Path) -> Merged:
    """Put labelled pictures into a data set folder (COCO: ``annotations.json`` and ``images/``), made when absent.

    A picture that is there already, by its content, gets the new labels. The label file is replaced last, in one step.
    Raises `BadInput`, and changes nothing, when the folder holds something else or lacks pictures of its own.
    """
    expect_writable(folder, folder=True)
    file = folder / "annotations.json"
    old = read_dataset(file) if file.exists() else None
    if old is not None and old.left_out:
        raise BadInput([*old.left_out, f"{folder}: pictures of the data set itself are not usable; nothing was merged"])
    if old is not None and old.format != "COCO":
        raise BadInput(f"{file}: expected COCO, found {old.format}; merge into another folder")
    all_of: dict[str, tuple[str, Labelled]] = {}
    for p in old.pictures if old is not None else ():
        inside = p.path.relative_to(folder / "images") if p.path.is_relative_to(folder / "images") else p.path
        all_of[_sha(p.path)] = (str(inside), p)
    left_out, added, replaced, unchanged = list(data.left_out), 0, 0, 0
    seen: set[str] = set()
    for p in data.pictures:
        sha = _sha(p.path)
        if sha in seen:
            left_out.append(f"{p.path}: the same picture twice among the new ones")
            continue
        seen.add(sha)
        if sha in all_of:
            name, before = all_of[sha]
            same = np.array_equal(before.boxes_px.round(1), p.boxes_px.round(1)) and before.names == p.names
            unchanged, replaced = unchanged + same, replaced + (not same)
            all_of[sha] = (name, p)
        else:
            added += 1
            all_of[sha] = (_free_name(p.path, sha, {name for name, _ in all_of.values()}), p)
    for name, p in all_of.values():
        target = folder / "images" / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f".{target.name}.part")
            shutil.copyfile(p.path, part)
            part.replace(target)
    pictures = sorted(all_of.values(), key=lambda x: x[0])
    document = coco.document(pictures)
    write_atomic(file, json.dumps(document, indent=1).encode())
    return Merged(added, replaced, unchanged, len(pictures), len(document["annotations"]), left_out)


def _free_name(path: Path, sha: str, taken: set[str]) -> str:
    return path.name if path.name not in taken else f"{path.stem}-{sha[:8]}{path.suffix}"


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
