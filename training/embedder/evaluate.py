"""Rank-1 of an embedder on a crop pool: ``python -m training.embedder.evaluate --renders DIR``.

Per store, each shelf crop (its true box, and boxes jittered as a detector's) is looked up among the store's gallery
pictures; a product's likeness is that to its best picture, or to the mean of them. ``design`` counts a sibling that
differs in size alone as right: pictures can't tell those apart, depth can.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.adapters.embed_onnx import OnnxEmbedder
from shelfscan.ports import Embedder
from shelfscan.sim.layout import SIZES
from shelfscan.sim.packaging import make_packs


def main() -> None:
    p = argparse.ArgumentParser(description="Rank-1 of an embedder on a crop pool.")
    p.add_argument("--renders", type=Path, required=True)
    p.add_argument("--models", type=Path)
    p.add_argument("--pictures", type=int, default=2, help="gallery pictures a product")
    p.add_argument("--size", default="small")
    p.add_argument("--colour", type=float, default=0.0, help="weight of a colour-layout descriptor joined to the vectors")
    args = p.parse_args()
    embedder = OnnxEmbedder(models=args.models, threads=1)
    print(json.dumps(rank1(embedder, args.renders, args.pictures, args.size, args.colour)))


def rank1(embedder: Embedder, renders: Path, pictures: int = 2, size: str = "small", colour: float = 0.0) -> dict[str, float]:
    """Share of crops whose nearest product is right, by how far their boxes are off, and how fast."""
    rows = list(csv.DictReader((renders / "index.csv").open()))
    stores: dict[str, list[dict[str, str]]] = defaultdict(list)
    for r in rows:
        stores[r["sku"].split("/")[0]].append(r)
    rng = np.random.default_rng(0)
    totals: dict[str, list[float]] = defaultdict(list)
    spent = crops = 0.0
    for seed, mine in stores.items():
        packs = {s.sku: s for s in make_packs(int(seed), SIZES[size].sku_limit, "train")}
        design = {f"{seed}/{k}": (s.family, s.variant) for k, s in packs.items()}
        gallery = defaultdict(list)
        for r in mine:
            if r["kind"] == "gallery":
                gallery[r["sku"]].append(cv2.imread(str(renders / r["file"]))[..., ::-1])
        names = sorted(gallery)
        flat = [g for n in names for g in gallery[n][:pictures]]
        owner = np.array([i for i, n in enumerate(names) for _ in gallery[n][:pictures]])
        ref = describe(embedder, flat, colour)
        shelf = [r for r in mine if r["kind"] == "shelf"]
        for slack in (0.0, 0.05):
            cuts = [cut(renders, r, rng, slack) for r in shelf]
            start = time.perf_counter()
            query = describe(embedder, cuts, colour)
            spent += time.perf_counter() - start
            crops += len(cuts)
            like = query @ ref.T
            best = np.stack([like[:, owner == i].max(1) for i in range(len(names))], 1)
            guess = best.argmax(1)
            for r, g in zip(shelf, guess, strict=True):
                totals[f"rank1_slack_{slack}"].append(names[g] == r["sku"])
                totals[f"design_slack_{slack}"].append(design[names[g]] == design[r["sku"]])
        totals["gallery"].append(len(names))
    out = {k: round(float(np.mean(v)), 4) for k, v in totals.items()}
    return {**out, "crops": int(crops / 2), "crops_per_s_one_thread": round(crops / spent)}


def describe(embedder: Embedder, crops: list[NDArray[np.uint8]], colour: float) -> NDArray[np.float32]:
    """Unit vectors, with a colour-layout descriptor joined when it has a weight."""
    vectors = embedder.embed(crops)
    if not colour:
        return vectors
    return np.hstack([vectors, colour * np.stack([colour_layout(c) for c in crops])]) / np.float32(np.sqrt(1 + colour**2))


def colour_layout(crop: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean chroma and lightness of a 6×5 grid, light taken out, length 1."""
    lab = cv2.cvtColor(cv2.resize(crop, (5, 6), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2LAB).astype(np.float32)
    lab[..., 0] -= lab[..., 0].mean()
    lab[..., 1:] -= 128
    v = lab.ravel()
    return np.asarray(v / max(float(np.linalg.norm(v)), 1e-6), np.float32)


def cut(folder: Path, row: dict[str, str], rng: np.random.Generator, slack: float) -> NDArray[np.uint8]:
    """The product's box of a crop, each side off by up to ``slack`` of the box's length."""
    img = cv2.imread(str(folder / row["file"]))[..., ::-1]
    x0, y0, x1, y1 = (float(row[k]) for k in ("x0", "y0", "x1", "y1"))
    w, h = x1 - x0, y1 - y0
    j = rng.uniform(-slack, slack, 4) * (w, h, w, h)
    a, b = max(0, round(y0 + j[1])), min(img.shape[0], round(y1 + j[3]))
    c, d = max(0, round(x0 + j[0])), min(img.shape[1], round(x1 + j[2]))
    return np.ascontiguousarray(img[a : max(b, a + 4), c : max(d, c + 4)])


if __name__ == "__main__":
    main()
