"""How well products are named: nearest references on crops of other photographs, telling the unknown, and abstaining.

*Unknown* is measured by leaving SKUs out: a query's best score with its own SKU in the gallery is a known product's, its
best score with that SKU left out is a stranger's. What other SKUs score depends on who else is there (a close look
weighs what only one of them has), so the recogniser is asked anew without it.

*Planned* is what a planogram would add: the true SKU is one of five that are planned there, the other four drawn from the
gallery by seed, and the best-scored of the five is the answer. Real neighbours on a shelf look more alike than drawn
ones, and real planograms are sometimes wrong; neither is simulated, so this is an upper bound.

*Answered* is what `audit` would say: the verdict at the recogniser's own threshold is one SKU, neither unknown nor a tie.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
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
from shelfscan.model.detections import Candidate
from shelfscan.model.imaging import Rgb
from shelfscan.perception.recognise import Look, Recogniser, Verdict, verdict

#: Makes a recogniser that knows reference pictures by SKU.
Enrol = Callable[[dict[str, list[Rgb]]], Recogniser]
BATCH = 64
#: So many SKUs are planned around a place, the true one among them.
PLANNED = 5


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one query. ``stranger``: the best score, and ``refused``: the verdict unknown, without its SKU."""

    right: bool
    among_five: bool
    planned_right: bool
    score: float
    verdict: Verdict
    tie_right: bool
    stranger: float
    refused: bool


class Tally:
    """What single queries add up to. ``seed`` draws the planned neighbours."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self.answers: list[Answer] = []
        self.seconds = 0.0

    def ask(self, recogniser: Recogniser, queries: Sequence[tuple[str, Rgb]]) -> None:
        """Let the recogniser name crops of known SKUs."""
        for start in range(0, len(queries), BATCH):
            part = queries[start : start + BATCH]
            t0 = time.perf_counter()
            looks = recogniser.looks([crop for _, crop in part])
            for sku, _ in part:
                look = next(looks)
                named = look.candidates()
                self.seconds += time.perf_counter() - t0
                self.answers.append(self._judge(recogniser, look, sku, named))
                t0 = time.perf_counter()

    def _judge(self, recogniser: Recogniser, look: Look, sku: str, named: Sequence[Candidate]) -> Answer:
        planned = self._planned(recogniser.skus, sku)
        best = next(c for c in look.candidates(also=planned) if c.sku in planned)
        without = look.candidates(without={sku})
        said = verdict(named, recogniser.unknown_below)
        names = [c.sku for c in named]
        return Answer(
            right=names[0] == sku,
            among_five=sku in names[:5],
            planned_right=best.sku == sku,
            score=named[0].score,
            verdict=said,
            tie_right=said.tied_with != "" and sku in (said.sku, said.tied_with),
            stranger=without[0].score if without else 0.0,
            refused=verdict(without, recogniser.unknown_below).sku == "",
        )

    def _planned(self, skus: Sequence[str], sku: str) -> set[str]:
        """A SKU and up to four others."""
        others = [s for s in skus if s != sku]
        drawn = self._rng.choice(len(others), size=min(PLANNED - 1, len(others)), replace=False)
        return {sku, *(others[i] for i in drawn.tolist())}

    def measures(self, gallery: int, bad: Unreadable) -> dict[str, Any]:
        """The numbers of the contract. Raises `BadInput` when nothing was asked."""
        asked = self.answers
        n = len(asked)
        if not n:
            raise bad.none_left()
        # Among equal scores the wrong answers come first, so that order cannot flatter.
        surest = sorted(asked, key=lambda a: (-a.score, a.right))[: (n + 1) // 2]
        answered = [a for a in asked if a.verdict.sku and not a.verdict.tied_with]
        tied = [a for a in asked if a.verdict.tied_with]
        return {
            "top1": ratio(sum(a.right for a in asked), n),
            "top5": ratio(sum(a.among_five for a in asked), n),
            "top1_planned": ratio(sum(a.planned_right for a in asked), n),
            "auroc_unknown": round(auroc([a.score for a in asked], [a.stranger for a in asked]), 4),
            "precision_surest_half": ratio(sum(a.right for a in surest), len(surest)),
            "answered": ratio(len(answered), n),
            "precision_answered": ratio(sum(a.right for a in answered), len(answered)),
            "tied": ratio(len(tied), n),
            "precision_tied": ratio(sum(a.tie_right for a in tied), len(tied)),
            "strangers_refused": ratio(sum(a.refused for a in asked), n),
            "queries": n,
            "gallery": gallery,
            "ms_per_query": round(1e3 * self.seconds / n, 2),
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
        return _of_packshots(folder, enrol, seed, report)
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
    tally = Tally(seed)
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


def _of_packshots(folder: Path, enrol: Enrol, seed: int, report: Report) -> dict[str, Any]:
    bad = Unreadable()
    references: dict[str, list[Rgb]] = {}
    for _, row in read_rows(folder / "gallery_iconic.csv", ("file", "fine_class")):
        picture = bad.read(folder / row["file"])
        if picture is not None:
            references.setdefault(row["fine_class"], []).append(picture)
    table = read_rows(folder / "labels.csv", ("file", "fine_class"))
    if not references:
        raise bad.none_left()
    recogniser, tally = enrol(references), Tally(seed)
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
    tally = Tally(seed)
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
