"""All that the embedder is trained on as one bank of small pictures, so that an accelerator can make its views.

A bank has pictures (N, 4, PX, PX) uint8 RGBA, stretched to squares; classes, each with the pictures that a gallery and a shelf
would show of it; and groups of classes. Classes of a group that is not *distinct* may be the same product (cuts of one
photograph): training never counts them against each other.
"""

from __future__ import annotations

import argparse
import csv
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from training.detector.art import Image
from training.detector.art import photographed as photographs
from training.detector.compose import PRODUCT
from training.detector.real import samples
from training.detector.rich import rich_arts

PX = 160
#: What is around a product in a picture with ``margin``, as a share of the product's sides.
MARGIN = 0.1
FLAT, PRINTED, PHOTOGRAPHED, RENDERED = range(4)


@dataclass
class Bank:
    """See the module. ``gallery``, ``shelf``: picture numbers of each class; ``source``: of each class, FLAT and so on."""

    pictures: list[Image] = field(default_factory=list)
    margin: list[bool] = field(default_factory=list)
    gallery: list[list[int]] = field(default_factory=list)
    shelf: list[list[int]] = field(default_factory=list)
    group: list[int] = field(default_factory=list)
    source: list[int] = field(default_factory=list)
    distinct: list[bool] = field(default_factory=list)
    groups: int = 0

    def picture(self, rgba: Image, margin: bool = False) -> int:
        """Adds a picture, (h, w, 4) uint8."""
        method = cv2.INTER_AREA if min(rgba.shape[:2]) > PX else cv2.INTER_LINEAR
        self.pictures.append(np.asarray(cv2.resize(rgba, (PX, PX), interpolation=method), np.uint8))
        self.margin.append(margin)
        return len(self.pictures) - 1

    def add(self, gallery: list[int], shelf: list[int], group: int, source: int, distinct: bool) -> None:
        """Adds a class."""
        self.gallery.append(gallery)
        self.shelf.append(shelf)
        self.group.append(group)
        self.source.append(source)
        self.distinct.append(distinct)
        self.groups = max(self.groups, group + 1)

    def fronts(self, textures: list[Image], source: int, distinct: bool = True, group: int | None = None) -> None:
        """Adds one group of fronts, each a class of its own."""
        g = self.groups if group is None else group
        for t in textures:
            n = self.picture(t)
            self.add([n], [n], g, source, distinct)


def _printed(work: tuple[int, int, Path | None]) -> list[list[Image]]:
    seed, count, data = work
    cv2.setNumThreads(1)
    rng = np.random.default_rng(seed)
    photos = photographs(data)[0] if data else []
    out: list[list[Image]] = []
    while sum(map(len, out)) < count:
        arts = rich_arts(rng, photos, 6)
        out.append([cv2.resize(a.texture, (PX, PX), interpolation=cv2.INTER_AREA) for a in arts])  # type: ignore[misc]
    return out


def printed(bank: Bank, count: int, seed: int, data: Path | None, workers: int) -> None:
    """Drawn fronts with real fonts, by families of one colour."""
    share = -(-count // (4 * workers))
    with ProcessPoolExecutor(workers) as pool:
        for groups in pool.map(_printed, [(seed * 1000 + i, share, data) for i in range(4 * workers)]):
            for g in groups:
                bank.fronts(g, PRINTED)


def _flat(work: tuple[int, int]) -> list[tuple[int, Image]]:
    from shelfscan.sim.packaging import make_packs
    from training.detector.packs import NAMESPACE, pack_art

    cv2.setNumThreads(1)
    seed, count = work
    return [(s.family, pack_art(s, PX).texture) for s in make_packs(seed, count, NAMESPACE)]


def flat(bank: Bank, count: int, workers: int) -> None:
    """The simulator's packs of the training name space, by families."""
    share = -(-count // workers)
    with ProcessPoolExecutor(workers) as pool:
        for packs in pool.map(_flat, [(7_000_001 + i, share) for i in range(workers)]):
            by: dict[int, list[Image]] = {}
            for family, texture in packs:
                by.setdefault(family, []).append(texture)
            for g in by.values():
                bank.fronts(g, FLAT)


def photographed(bank: Bank, labels: Path, data: Path, least_px: int = 36) -> None:
    """Products of the labelled photographs. Those of all store frames are one group, and those of one packshot's photographs:
    the same product may well be in several."""
    frames, shots = bank.groups, {}
    bank.groups += 1
    for file in sorted(labels.glob("*.json")):
        import json

        names = [Path(i["file_name"]) for i in json.loads(file.read_text())["images"]]
        for name, sample in zip(_kept(names), samples(file, data, held_out=False), strict=True):
            if "packshots" in str(name):
                product = "_".join(name.stem.split("_")[:2])
                group = shots.setdefault(product, bank.groups)
            else:
                group = frames
            cuts = []
            for x0, y0, x1, y1 in sample.boxes[sample.classes == PRODUCT].round().astype(int).tolist():
                cut = sample.picture[max(0, y0) : y1, max(0, x0) : x1]
                if min(cut.shape[:2]) >= least_px:
                    cuts.append(np.dstack([cut, np.full(cut.shape[:2], 255, np.uint8)]))
            bank.fronts(cuts, PHOTOGRAPHED, distinct=False, group=group)
            bank.groups = max(bank.groups, group + 1)


def _kept(names: list[Path]) -> list[Path]:
    from training.detector.real import HELD_OUT

    return [n for n in names if n.name not in HELD_OUT]


def rendered(bank: Bank, folder: Path) -> None:
    """Crops of rendered stores (`training.embedder.pool`): products by families, seen from several places."""
    gallery: dict[str, list[int]] = {}
    shelf: dict[str, list[int]] = {}
    family: dict[str, str] = {}
    for row in csv.DictReader((folder / "index.csv").open()):
        img = cv2.imread(str(folder / row["file"]))
        if img is None:
            continue
        x0, y0, x1, y1 = (float(row[k]) for k in ("x0", "y0", "x1", "y1"))
        w, h = x1 - x0, y1 - y0
        s = PX / (1 + 2 * MARGIN)
        m = np.array([[s / w, 0, (MARGIN - x0 / w) * s], [0, s / h, (MARGIN - y0 / h) * s]])
        flags = cv2.INTER_LINEAR
        cut = cv2.warpAffine(img[..., ::-1], m, (PX, PX), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        n = bank.picture(np.dstack([cut, np.full((PX, PX), 255, np.uint8)]), margin=True)
        (shelf if row["kind"] == "shelf" else gallery).setdefault(row["sku"], []).append(n)
        family[row["sku"]] = row["family"]
    groups: dict[str, int] = {}
    for sku, fam in family.items():
        if sku in gallery and sku in shelf:
            g = groups.setdefault(fam, bank.groups)
            bank.groups = max(bank.groups, g + 1)
            bank.add(gallery[sku], shelf[sku], g, RENDERED, True)


def save(bank: Bank, path: Path) -> None:
    """Writes a bank, uncompressed."""
    flat_g, flat_s = _ragged(bank.gallery), _ragged(bank.shelf)
    np.savez(
        path, pictures=np.stack(bank.pictures).transpose(0, 3, 1, 2), margin=np.array(bank.margin), group=np.array(bank.group),
        source=np.array(bank.source), distinct=np.array(bank.distinct), gallery=flat_g[0], gallery_count=flat_g[1],
        shelf=flat_s[0], shelf_count=flat_s[1],
    )  # fmt: skip


def _ragged(lists: list[list[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lists as rows of one array, repeated to the longest, and their lengths."""
    most = max(map(len, lists))
    return np.array([(x * most)[:most] for x in lists]), np.array([len(x) for x in lists])


def main() -> None:
    p = argparse.ArgumentParser(description="Make the embedder's bank of pictures.")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--printed", type=int, default=12000)
    p.add_argument("--flat", type=int, default=6000)
    p.add_argument("--labels", type=Path, default=Path("training/labels"))
    p.add_argument("--data", type=Path, help="folder with packshots/ and price_tags/")
    p.add_argument("--renders", type=Path, help="crop pool of rendered training stores")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--workers", type=int, default=2)
    args = p.parse_args()
    bank = Bank()
    printed(bank, args.printed, args.seed, args.data, args.workers)
    flat(bank, args.flat, args.workers)
    if args.data:
        photographed(bank, args.labels, args.data)
    if args.renders:
        rendered(bank, args.renders)
    save(bank, args.out)
    count = np.bincount(bank.source, minlength=4)
    print(f"{len(bank.pictures)} pictures; classes: flat, printed, photographed, rendered {count.tolist()}")


if __name__ == "__main__":
    main()
