"""Pictures of what the shipped networks get right and wrong, for the documents, chosen by rule:

    python -m benchmarks.picture_pages --data DATA --out docs/images/accuracy

``DATA`` holds ``packshots/`` (GroceryStoreDataset, MIT) and ``price_tags/`` (CC BY 4.0), the only photographs that may be
shown. Writes the pictures and a ``LICENCES.md`` beside them, and the page ``docs/accuracy-pictures.md`` with every number;
run it again after every change of weights or readers.
"""

from __future__ import annotations

import argparse
import json
import os
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from training.detector.real import HELD_OUT

from benchmarks.drawing import GREEN, GREY, INK, MAX_BYTES, ORANGE, RED, Box, Cell, Mark, marked, save_jpeg, sheet
from shelfscan.adapters.models import model_entry
from shelfscan.adapters.pictures import read_picture
from shelfscan.bootstrap import make_embedder, make_photo_detector, make_recogniser, make_tag_reader
from shelfscan.config import Config
from shelfscan.errors import BadInput, ShelfscanError
from shelfscan.evaluation.data import cut, read_coco, read_json, read_rows
from shelfscan.evaluation.reading import FOUND_IOU, TAG_PAD, same_price
from shelfscan.model.detections import DetectionClass
from shelfscan.perception.photo import PhotoDetector, find_products
from shelfscan.ports import TagReader

#: All pictures together.
FOLDER_BYTES = 2_500_000
#: Pictures of each kind of names: surest right, surest wrong, in between.
SHOWN = 12
#: A found box that lies in an ignored one by this share is not counted.
IN_IGNORED = 0.5
GALLERY, QUERIES = "gallery_iconic.csv", "labels.csv"


@dataclass(frozen=True, slots=True)
class Page:
    """One picture file: its caption, and the photographs that it shows (paths below the data folder)."""

    file: str
    title: str
    caption: str
    photographs: tuple[str, ...]


@dataclass(frozen=True)
class Labels:
    """Boxes (N, 4) of one photograph in px."""

    products: NDArray[np.float64]
    tags: NDArray[np.float64]
    ignored: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Named:
    """One photograph of a product and what it was taken for."""

    file: str
    sku: str
    named: str
    score: float

    @property
    def right(self) -> bool:
        return self.named == self.sku


class Pages:
    """Where pictures are written, and what they come to."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.pages: list[Page] = []
        self.bytes = 0
        out.mkdir(parents=True, exist_ok=True)

    def add(self, picture: Image.Image, page: Page) -> None:
        self.bytes += save_jpeg(picture, self.out / page.file)
        self.pages.append(page)

    def finish(self) -> None:
        """Drop pictures of an earlier run. Raises `BadInput` when the folder is too large."""
        for old in self.out.glob("*.jpg"):
            if old.name not in {p.file for p in self.pages}:
                old.unlink()
        if self.bytes > FOLDER_BYTES:
            raise BadInput(f"{self.out}: {self.bytes} bytes of pictures; expected {FOLDER_BYTES} at most")


def labels_of(path: Path) -> dict[str, Labels]:
    """The project's own labels by the photograph's name. Raises `BadInput`."""
    data: Any = read_json(path, "COCO with images, annotations and categories")
    try:
        kinds = {c["id"]: str(c["name"]) for c in data["categories"]}
        boxes: dict[tuple[Any, str], list[list[float]]] = {}
        for a in data["annotations"]:
            x, y, w, h = (float(v) for v in a["bbox"])
            boxes.setdefault((a["image_id"], kinds[a["category_id"]]), []).append([x, y, x + w, y + h])
        return {
            Path(i["file_name"]).name: Labels(
                *(np.array(boxes.get((i["id"], k), [])).reshape(-1, 4) for k in ("product", "price_tag", "ignore"))
            )
            for i in data["images"]
        }
    except (KeyError, TypeError, ValueError) as e:
        raise BadInput(f"{path}: expected COCO with images, annotations and categories: {e!r}") from e


def shares(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of boxes (N, 4) and (M, 4): intersection over union, and the share of each of the first in each of the second; (N, M)."""
    p, q = a[:, None], b[None]
    size = np.clip(np.minimum(p[..., 2:], q[..., 2:]) - np.maximum(p[..., :2], q[..., :2]), 0.0, None)
    shared = size[..., 0] * size[..., 1]
    area_p, area_q = (np.prod(np.clip(v[..., 2:] - v[..., :2], 1e-6, None), axis=-1) for v in (p, q))
    return shared / (area_p + area_q - shared), shared / area_p


def matched(found: NDArray[np.float64], truth: NDArray[np.float64]) -> NDArray[np.int64]:
    """For each found box, best first, the labelled one that it is (IoU of `FOUND_IOU`; each once), or -1; (N,)."""
    iou, _ = shares(found, truth)
    out = np.full(len(found), -1, np.int64)
    free = np.ones(len(truth), bool)
    for i in range(len(found)):
        fit = np.where(free, iou[i], 0.0)
        if fit.max(initial=0.0) >= FOUND_IOU:
            out[i] = int(fit.argmax())
            free[out[i]] = False
    return out


def box_of(row: NDArray[Any]) -> Box:
    x0, y0, x1, y1 = (float(v) for v in row)
    return x0, y0, x1, y1


def detection_pages(data: Path, labels: dict[str, Labels], detector: PhotoDetector, pages: Pages) -> None:
    """The held-out frames, whole, with what was found."""
    for n, name in enumerate(HELD_OUT, start=1):
        file = f"price_tags/images/{name}"
        photograph, truth = read_picture(data / file), labels[name]
        found = find_products(detector, photograph)
        boxes = found.boxes_px.astype(np.float64)
        owner = matched(boxes, truth.products)
        _, inside = shares(boxes, truth.ignored)
        vague = (owner < 0) & (inside.max(axis=1, initial=0.0) >= IN_IGNORED)
        right, wrong = owner >= 0, (owner < 0) & ~vague
        missed = np.setdiff1d(np.arange(len(truth.products)), owner)
        marks = [Mark(box_of(b), GREY, dashed=True) for b in truth.ignored]
        marks += [Mark(box_of(b), GREY) for b in boxes[vague]]
        marks += [Mark(box_of(b), GREEN) for b in boxes[right]]
        marks += [Mark(box_of(b), RED, dashed=True) for b in truth.products[missed]]
        marks += [Mark(box_of(b), ORANGE, text=_two(float(s))) for b, s in zip(boxes[wrong], found.scores[wrong], strict=True)]
        legend = [
            (f"right: {right.sum()}", GREEN),
            (f"labelled, not found: {len(missed)}", RED),
            (f"found, no such label (score): {wrong.sum()}", ORANGE),
            (f"not counted: {vague.sum()} found; dashed: labelled as vague", GREY),
        ]
        caption = (
            f"{len(truth.products)} labelled products: {right.sum()} found "
            f"(recall {_share(right.sum(), len(truth.products))}), {len(missed)} missed; "
            f"{wrong.sum()} boxes are no labelled product (precision {_share(right.sum(), right.sum() + wrong.sum())}); "
            f"{vague.sum()} found in ignored parts."
        )
        pages.add(marked(photograph, marks, legend), Page(f"detection-{n}.jpg", f"`{name}`", caption, (file,)))


def _two(value: float) -> str:
    return f"{value:.2f}".removeprefix("0")


def _share(part: float, whole: float) -> str:
    return _two(part / whole) if whole else "–"


def tag_pages(data: Path, labels: dict[str, Labels], detector: PhotoDetector, reader: TagReader, pages: Pages) -> None:
    """Every tag of the held-out frames, left to right, with what was read."""
    frames = {p.path.name: p for p in read_coco(data / "price_tags")}
    #: `training.detector.art` cuts its tag textures from every second frame.
    textures = set(sorted(frames)[::2])
    for n, name in enumerate(HELD_OUT, start=1):
        file = f"price_tags/images/{name}"
        photograph, truth = read_picture(data / file), labels[name].tags
        boxes = detector.detect(photograph).of(DetectionClass.PRICE_TAG).boxes_px.astype(np.float64)
        owner = matched(boxes, truth)
        priced = [b for b in frames[name].boxes if b.price]
        cells: list[tuple[float, Cell]] = []
        answered = known = exact = 0
        for box, own in zip(boxes, owner, strict=True):
            crop = cut(photograph, box_of(box), TAG_PAD)
            read = reader.read(crop)
            answered += bool(read.price_text)
            price = _price(box, priced)
            right = bool(price) and same_price(read.price_text, price)
            known += bool(price)
            exact += right
            said = f"read {read.price_text}" if read.price_text else "no answer"
            colour = INK if not price or not read.price_text else GREEN if right else RED
            label = f"label {price}" if price else "price not labelled"
            cells.append((box[0] + box[2], Cell((crop,), ((said, colour), ("fits no label" if own < 0 else label, GREY)))))
        missed = np.setdiff1d(np.arange(len(truth)), owner)
        for box in truth[missed]:
            price = _price(box, priced)
            known += bool(price)
            lines = (("not found", RED), (f"label {price}" if price else "price not labelled", GREY))
            cells.append((box[0] + box[2], Cell((cut(photograph, box_of(box), TAG_PAD),), lines)))
        cells.sort(key=lambda c: c[0])
        caption = (
            f"{len(truth)} labelled tags: {len(truth) - len(missed)} found, {len(missed)} missed; found that fit no label: "
            f"{int((owner < 0).sum())}. {answered} of the {len(boxes)} found got an answer. Of {known} with a labelled price "
            f"{exact} were found and read exactly."
        )
        if name in textures:
            caption += " Tags of this frame were cut out as textures of training shelves, so that they were found says little."
        pages.add(sheet([c for _, c in cells], 7, (141, 80)), Page(f"tags-{n}.jpg", f"`{name}`", caption, (file,)))


def _price(box: NDArray[np.float64], priced: Sequence[Any]) -> str:
    """The labelled price of a tag, empty when it has none."""
    iou = shares(box[None], np.array([b.box_px for b in priced]).reshape(-1, 4))[0][0]
    return str(priced[int(iou.argmax())].price) if iou.max(initial=0.0) >= FOUND_IOU else ""


def named_by_score(data: Path) -> tuple[list[Named], dict[str, str]]:
    """All photographs with their best name, surest first, and the packshot of each product. Raises `BadInput`."""
    folder = data / "packshots"
    shots = {row["fine_class"]: row["file"] for _, row in read_rows(folder / GALLERY, ("file", "fine_class"))}
    recogniser = make_recogniser(
        Config(), make_embedder(Config()), {sku: [read_picture(folder / file)] for sku, file in shots.items()}
    )
    out = []
    for _, row in read_rows(folder / QUERIES, ("file", "fine_class")):
        best = recogniser.recognise([read_picture(folder / row["file"])])[0][0]
        out.append(Named(row["file"], row["fine_class"], best.sku, best.score))
    return sorted(out, key=lambda n: (-n.score, n.file)), shots


def name_pages(data: Path, seen: set[str], pages: Pages) -> str:
    """The surest right, the surest wrong and evenly spaced others; returns a table of how right by sureness."""
    ranked, shots = named_by_score(data)
    right = [n for n in ranked if n.right][:SHOWN]
    wrong = [n for n in ranked if not n.right][:SHOWN]
    left = [n for n in ranked if n not in right and n not in wrong]
    between = [left[int(i)] for i in np.linspace(0, len(left) - 1, SHOWN).round()] if left else []
    total = sum(n.right for n in ranked)
    for file, title, chosen in (
        ("names-surest-right.jpg", f"The {len(right)} surest of {total} right names", right),
        ("names-surest-wrong.jpg", f"The {len(wrong)} surest of {len(ranked) - total} wrong names", wrong),
        ("names-between.jpg", f"{len(between)} of the {len(left)} others, evenly spaced by score", between),
    ):
        cells = [_name_cell(data, n, shots, seen) for n in chosen]
        caption = f"scores {_two(chosen[0].score)} to {_two(chosen[-1].score)}, {sum(n.right for n in chosen)} of them right."
        shown = [n.file for n in chosen] + [shots[s] for n in chosen for s in (n.named, n.sku)]
        photographs = tuple(f"packshots/{f}" for f in dict.fromkeys(shown))
        pages.add(sheet(cells, 3, (112, 112)), Page(file, title, caption, photographs))
    rows = []
    for part in np.array_split(np.arange(len(ranked)), 4):
        some = [ranked[int(i)] for i in part]
        fresh = [n for n in some if n.file not in seen]
        rows.append(
            f"| {_two(some[0].score)}–{_two(some[-1].score)} | {len(some)} | {_share(sum(n.right for n in some), len(some))} "
            f"| {_share(sum(n.right for n in fresh), len(fresh))} |"
        )
    unseen = [n for n in ranked if n.file not in seen]
    rows.append(
        f"| all | {len(ranked)} | {_share(total, len(ranked))} "
        f"| {_share(sum(n.right for n in unseen), len(unseen))} ({len(unseen)} photographs) |"
    )
    return "\n".join(["| score | photographs | right | right without those marked * |", "|---|---|---|---|", *rows])


def _name_cell(data: Path, n: Named, shots: dict[str, str], seen: set[str]) -> Cell:
    folder = data / "packshots"
    pictures = [read_picture(folder / n.file), read_picture(folder / shots[n.named])]
    head = f"{_two(n.score)}{'*' if n.file in seen else ''}  {'right' if n.right else 'wrong'}: {n.named}"
    lines = [(head, GREEN if n.right else RED)]
    if not n.right:
        pictures.append(read_picture(folder / shots[n.sku]))
        lines.append((f"is: {n.sku}", INK))
    return Cell(tuple(pictures), tuple(lines))


def licences(pages: Iterable[Page], data: Path) -> str:
    """Source and licence of every photograph shown."""
    shown: dict[str, list[str]] = {}
    for page in pages:
        for photograph in page.photographs:
            shown.setdefault(photograph, []).append(page.file)
    mit = (data / "packshots" / "LICENSE").read_text(encoding="utf-8").strip()

    def listed(folder: str) -> str:
        return "\n".join(f"- `{p}`: {', '.join(shown[p])}" for p in sorted(shown) if p.startswith(f"{folder}/"))

    return f"""# Licences of the photographs in this folder

Written by `python -m benchmarks.picture_pages`. Boxes, captions and layout: Apache-2.0, as the project. The products'
designs and marks belong to their owners; they are shown to say what software makes of them.

## CC BY 4.0: detection-*.jpg, tags-*.jpg

"shelf-price-detection", a Roboflow export in
[AnujB05/Retail-Shelf-Price-Tag-Recognition-and-OCR](https://github.com/AnujB05/Retail-Shelf-Price-Tag-Recognition-and-OCR).
Licence: [Creative Commons Attribution 4.0](https://creativecommons.org/licenses/by/4.0/). Changed: boxes drawn, scaled; for
tags-*.jpg price tags cut out, scaled and captioned.

{listed("price_tags")}

## MIT: names-*.jpg

GroceryStoreDataset, <https://github.com/marcusklasson/GroceryStoreDataset>: M. Klasson, C. Zhang, H. Kjellström, "A
Hierarchical Grocery Store Image Dataset with Visual and Semantic Labels", WACV 2019. Changed: scaled, laid side by side with
captions.

{listed("packshots")}

```text
{mit}
```
"""


def document(pages: Sequence[Page], table: str, detector: PhotoDetector, images: str) -> str:
    """The page with rules, numbers and pictures; ``images``: their folder as seen from the page."""
    weights = "\n".join(
        _wrapped(f"- {e.name} (`{e.file}`, sha256 {e.sha256[:12]}…), trained on: {e.data}", "  ")
        for e in (model_entry("detector"), model_entry("embedder"))
    )

    def shown(start: str) -> str:
        some = [p for p in pages if p.file.startswith(start)]
        return "\n\n".join(
            f"{_wrapped(f'**{p.title}**: {p.caption}')}\n\n![{p.title.strip('`')}]({images}/{p.file})" for p in some
        )

    return f"""# Accuracy in pictures

Written by `python -m benchmarks.picture_pages --data DATA --out docs/images/accuracy`, numbers and all; nothing here is
chosen by hand. How accuracy is measured, and on how much more than this: [accuracy.md](accuracy.md). Sources and licences of
the photographs: [LICENCES.md]({images}/LICENCES.md).

Weights shown (their cards: `models/*.md`):

{weights}

Run as: {detector.description}.

## Products on shelves
Rule: the labelled frames of `price_tags` that no training takes products from (`HELD_OUT` in `training/detector/real.py`), all
of them, whole. Boxes are those of `audit`, at the shipped threshold. *Right*: IoU .5 or more with a labelled product, each
label once, best score first. *Not counted*: boxes that lie by half in a part labelled as vague (too far, cut off, a heap).
The labels were drafted by an earlier detector and corrected by eye. Two frames of two shops illustrate; they measure little.

{shown("detection")}

## Price tags on the same frames
Rule: every tag of these frames, found or labelled, by the middle of its box from left to right. Prices are labelled only
in part; where one is, green says that the price read is that one, red that it is another; what is black is for your own eye.
Without a catalogue the reader knows no currency, so that a whole number passes for a price. A tag of which nothing is sure gets
no answer.

{shown("tags")}

## Names from one packshot
Rule: all photographs of `packshots` against a gallery of one packshot a product, sorted by the score of the best name. Shown
are the {SHOWN} surest right ones, the {SHOWN} surest wrong ones, and {SHOWN} of the others, evenly spaced from the
surest to the least sure. In each cell: the photograph, the packshot it was taken for, and, where that is wrong, the right one.

How blind this is: not very. The weights of the close look were chosen on these photographs, and they were textures of
composed training shelves. Those marked * are labelled for training (`training/labels`): weights that say so above have seen
their products, though never a photograph and a packshot as one product. On goods of other kinds expect less.

{table}

{shown("names")}
"""


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(text, 128, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def make(data: Path, out: Path, page: Path, labels: Path) -> Pages:
    """Write the pictures, their licences and the page. Raises `BadInput`, `MissingModel`."""
    config = Config()
    reader = make_tag_reader(config)
    if reader is None:
        raise BadInput("no tag reader: pip install rapidocr")
    frames = labels_of(labels / "price_tags.json")
    missing = [name for name in HELD_OUT if name not in frames]
    if missing:
        raise BadInput(f"{labels / 'price_tags.json'}: held-out frames without labels: {', '.join(missing)}")
    seen = {f"natural/{name}" for name in labels_of(labels / "packshots.json")}
    detector = make_photo_detector(config)
    pages = Pages(out)
    detection_pages(data, frames, detector, pages)
    tag_pages(data, frames, detector, reader, pages)
    table = name_pages(data, seen, pages)
    pages.finish()
    (out / "LICENCES.md").write_text(licences(pages.pages, data), encoding="utf-8")
    images = Path(os.path.relpath(out, page.parent)).as_posix()
    page.write_text(document(pages.pages, table, detector, images), encoding="utf-8")
    return pages


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with packshots/ and price_tags/")
    parser.add_argument("--out", type=Path, default=Path("docs/images/accuracy"), help="folder for the pictures")
    parser.add_argument("--page", type=Path, default=Path("docs/accuracy-pictures.md"))
    parser.add_argument("--labels", type=Path, default=Path("training/labels"))
    args = parser.parse_args()
    try:
        pages = make(args.data, args.out, args.page, args.labels)
    except ShelfscanError as e:
        raise SystemExit(f"picture_pages: {e}") from e
    print(f"{args.page}: {len(pages.pages)} pictures, {pages.bytes} bytes, none above {MAX_BYTES}")
    for p in pages.pages:
        print(json.dumps({"file": p.file, "caption": p.caption}, ensure_ascii=False))


if __name__ == "__main__":
    main()
