"""How well products are named: nearest references on crops of other photographs, and telling the unknown.

*Unknown* is measured by leaving SKUs out: a query's best score with its own SKU in the gallery is a known product's, its
best score over the other SKUs is what it would get were its own not in the gallery. That is the same as rebuilding the
gallery without it, because the recogniser scores every SKU on its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shelfscan.adapters.pictures import pictures_in
from shelfscan.errors import BadInput
from shelfscan.evaluation.data import (
    LabelledBox,
    Report,
    Unreadable,
    cut,
    need_folder,
    pictures_of,
    ratio,
    read_coco,
    read_rows,
)
from shelfscan.model.imaging import Rgb
from shelfscan.perception.recognise import Recogniser

#: Makes a recogniser that knows reference pictures by SKU.
Enrol = Callable[[dict[str, list[Rgb]]], Recogniser]
BATCH = 64


@dataclass
class Tally:
    """What single queries add up to."""

    first: int = 0
    among_five: int = 0
    queries: int = 0
    seconds: float = 0.0
    known: list[float] = field(default_factory=list)
    unknown: list[float] = field(default_factory=list)

    def ask(self, recogniser: Recogniser, queries: Sequence[tuple[str, Rgb]]) -> None:
        """Let the recogniser name crops of known SKUs."""
        for start in range(0, len(queries), BATCH):
            part = queries[start : start + BATCH]
            t0 = time.perf_counter()
            named = recogniser.recognise([crop for _, crop in part])
            self.seconds += time.perf_counter() - t0
            for (sku, _), candidates in zip(part, named, strict=True):
                names = [c.sku for c in candidates]
                self.first += names[:1] == [sku]
                self.among_five += sku in names[:5]
                self.known.append(candidates[0].score)
                self.unknown.append(next((c.score for c in candidates if c.sku != sku), 0.0))
        self.queries += len(queries)

    def measures(self, gallery: int, bad: Unreadable) -> dict[str, Any]:
        """The numbers of the contract. Raises `BadInput` when nothing was asked."""
        if not self.queries:
            raise bad.none_left()
        return {
            "top1": ratio(self.first, self.queries),
            "top5": ratio(self.among_five, self.queries),
            "auroc_unknown": round(auroc(self.known, self.unknown), 4),
            "queries": self.queries,
            "gallery": gallery,
            "ms_per_query": round(1e3 * self.seconds / self.queries, 2),
            "unreadable": bad.problems,
        }


def auroc(higher: Iterable[float], lower: Iterable[float]) -> float:
    """Probability that one of ``higher`` lies above one of ``lower``, ties half (Mann-Whitney U over all pairs)."""
    from scipy.stats import rankdata

    a, b = np.fromiter(higher, float), np.fromiter(lower, float)
    ranks: NDArray[np.float64] = rankdata(np.concatenate([a, b]))
    return float((ranks[: len(a)].sum() - len(a) * (len(a) + 1) / 2) / (len(a) * len(b)))


def evaluate_recognition(folder: Path, enrol: Enrol, references: int, seed: int, report: Report) -> dict[str, Any]:
    """Measure on a folder with ``gallery_query.csv`` (crops of photographs) or ``gallery_iconic.csv`` (packshots)."""
    need_folder(folder)
    if (folder / "gallery_query.csv").is_file():
        return _of_photographs(folder, enrol, references, seed, report)
    if (folder / "gallery_iconic.csv").is_file():
        if references != 1:
            raise BadInput(f"{folder}/gallery_iconic.csv has one reference a product: --references {references} cannot be had")
        return _of_packshots(folder, enrol, report)
    raise BadInput(f"{folder}: expected gallery_query.csv with annotations.json, or gallery_iconic.csv with labels.csv")


@dataclass(frozen=True, slots=True)
class _Row:
    sku: str
    image: str
    is_gallery: bool
    is_query: bool
    crop: Rgb


def _of_photographs(folder: Path, enrol: Enrol, references: int, seed: int, report: Report) -> dict[str, Any]:
    """Queries are those of another photograph than their SKU's gallery crop.

    With one reference that crop is the gallery. With more, each photograph is left out in turn: its queries meet up to
    ``references`` crops a SKU from the other photographs, the gallery crop first, the rest drawn by ``seed``.
    """
    bad = Unreadable()
    rows = _crops(folder, bad, report)
    tally = Tally()
    gallery = [r for r in rows if r.is_gallery]
    queries = [r for r in rows if r.is_query]
    known = {r.sku for r in gallery}
    if references == 1:
        queries = [r for r in queries if r.sku in known]
        if queries:
            tally.ask(enrol({r.sku: [r.crop] for r in gallery}), [(r.sku, r.crop) for r in queries])
        return tally.measures(len(gallery), bad)
    order = np.random.default_rng(seed).permutation(len(rows))
    shuffled = sorted((rows[i] for i in order), key=lambda r: not r.is_gallery)
    photos = sorted({r.image for r in queries})
    for n, photo in enumerate(photos):
        report(f"without {photo}", n / len(photos))
        chosen: dict[str, list[Rgb]] = {}
        for r in shuffled:
            if r.image != photo and len(chosen.get(r.sku, ())) < references:
                chosen.setdefault(r.sku, []).append(r.crop)
        asked = [(r.sku, r.crop) for r in queries if r.image == photo and r.sku in chosen]
        if asked:
            tally.ask(enrol(chosen), asked)
    return tally.measures(len(known), bad)


def _crops(folder: Path, bad: Unreadable, report: Report) -> list[_Row]:
    path = folder / "gallery_query.csv"
    table = read_rows(path, ("sku", "annotation_id", "image", "role", "same_image_as_gallery"))
    pictures = read_coco(folder)
    boxes: dict[str, LabelledBox] = {str(b.annotation_id): b for p in pictures for b in p.boxes}
    files = {str(b.annotation_id): p.path for p in pictures for b in p.boxes}
    problems = []
    wanted: dict[Path, list[dict[str, str]]] = {}
    for line, row in table:
        if row["annotation_id"] not in boxes:
            problems.append(f"{path}: line {line}: annotation_id {row['annotation_id']!r} is not in annotations.json")
        elif row["role"] not in ("gallery", "query"):
            problems.append(f"{path}: line {line}: role {row['role']!r}; expected gallery or query")
        else:
            wanted.setdefault(files[row["annotation_id"]], []).append(row)
    if problems:
        raise BadInput(problems)
    out = []
    for item, picture in pictures_of([p for p in pictures if p.path in wanted], bad, report):
        for row in wanted[item.path]:
            crop = cut(picture, boxes[row["annotation_id"]].box_px)
            if 0 in crop.shape:
                where = f"{folder / 'annotations.json'}: annotation {row['annotation_id']}"
                raise BadInput(f"{where} lies outside its picture {item.path.name}")
            query = row["role"] == "query" and row["same_image_as_gallery"] == "0"
            # A copy, so that the photograph can go.
            out.append(_Row(row["sku"], item.path.name, row["role"] == "gallery", query, crop.copy()))
    return out


def _of_packshots(folder: Path, enrol: Enrol, report: Report) -> dict[str, Any]:
    bad = Unreadable()
    references: dict[str, list[Rgb]] = {}
    for _, row in read_rows(folder / "gallery_iconic.csv", ("file", "fine_class")):
        picture = bad.read(folder / row["file"])
        if picture is not None:
            references.setdefault(row["fine_class"], []).append(picture)
    table = read_rows(folder / "labels.csv", ("file", "fine_class"))
    if not references:
        raise bad.none_left()
    recogniser, tally = enrol(references), Tally()
    batch: list[tuple[str, Rgb]] = []
    for n, (_, row) in enumerate(table):
        report(row["file"], n / len(table))
        picture = bad.read(folder / row["file"]) if row["fine_class"] in references else None
        if picture is not None:
            batch.append((row["fine_class"], picture))
        if len(batch) == BATCH:
            tally.ask(recogniser, batch)
            batch = []
    tally.ask(recogniser, batch)
    return tally.measures(len(references), bad)


def evaluate_crops(folder: Path, enrol: Enrol, references: int, splits: int, seed: int, report: Report) -> dict[str, Any]:
    """Measure on a folder a product: ``references`` of its pictures drawn by ``seed``, all others are queries.

    ``splits`` draws are pooled. A product with no more than ``references`` pictures keeps one as a query; one with a
    single picture is only there to be mistaken for.
    """
    bad = Unreadable()
    pictures: dict[str, list[Rgb]] = {}
    products = sorted(p for p in need_folder(folder).iterdir() if p.is_dir())
    for n, product in enumerate(products):
        report(product.name, n / len(products))
        read = [bad.read(file) for file in pictures_in(product)]
        if any(p is not None for p in read):
            pictures[product.name] = [p for p in read if p is not None]
    if not pictures:
        raise BadInput(bad.problems or [f"{folder}: expected a folder of pictures a product"])
    tally = Tally()
    rng = np.random.default_rng(seed)
    for split in range(splits):
        report(f"split {split + 1}", split / splits)
        gallery: dict[str, list[Rgb]] = {}
        queries: list[tuple[str, Rgb]] = []
        for sku, crops in pictures.items():
            order = rng.permutation(len(crops)).tolist()
            kept = max(1, min(references, len(crops) - 1))
            gallery[sku] = [crops[i] for i in order[:kept]]
            queries += [(sku, crops[i]) for i in order[kept:]]
        tally.ask(enrol(gallery), queries)
    return {**tally.measures(len(pictures), bad), "references": references, "splits": splits, "seed": seed}
