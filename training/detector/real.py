"""A pool of labelled photographs: ``python -m training.detector.real --labels training/labels --data DATA --out POOL``.

The labels are the project's own (drafted by the detector, corrected by looking); the photographs are those of `price_tags` (CC BY 4.0)
and `packshots` (MIT) and stay where they are. Whole frames are kept at the scale the detector works at; the small
photographs of single packs are laid together in threes by threes.
"""

# ruff: noqa: E501
from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from training.detector.compose import EMPTY, IGNORE, PRICE_TAG, PRODUCT, Sample
from training.detector.data import save

#: Long side of a whole frame in the pool.
SIDE_PX = 1440
#: Frames that are never trained on, so that something is left to measure on; one a shop.
HELD_OUT = ("20240913_161240_1108_1.jpg", "20250529_050706-168.jpg")
_CLASS = {"product": PRODUCT, "price_tag": PRICE_TAG, "empty": EMPTY, "ignore": IGNORE}
_TILE_PX = 400


def samples(labels: Path, data: Path, held_out: bool) -> list[Sample]:
    """The labelled pictures of one COCO file whose ``file_name`` lies below ``data``."""
    coco: dict[str, Any] = json.loads(labels.read_text(encoding="utf-8"))
    names = {c["id"]: _CLASS[c["name"]] for c in coco["categories"]}
    out = []
    for info in coco["images"]:
        if (Path(info["file_name"]).name in HELD_OUT) != held_out:
            continue
        picture = cv2.imread(str(data / info["file_name"]))
        if picture is None:
            raise SystemExit(f"{data / info['file_name']}: no such picture")
        mine = [a for a in coco["annotations"] if a["image_id"] == info["id"]]
        boxes = np.array([[a["bbox"][0], a["bbox"][1], a["bbox"][0] + a["bbox"][2], a["bbox"][1] + a["bbox"][3]] for a in mine])
        out.append(
            Sample(
                picture[..., ::-1].copy(),
                boxes.reshape(-1, 4).astype(np.float32),
                np.array([names[a["category_id"]] for a in mine]),
            )
        )
    return out


def scaled(sample: Sample, factor: float) -> Sample:
    """The picture and its boxes resized."""
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    picture = cv2.resize(sample.picture, None, fx=factor, fy=factor, interpolation=method)
    return Sample(picture, sample.boxes * np.float32(factor), sample.classes)


def board(parts: list[Sample], rng: np.random.Generator) -> Sample:
    """Nine small pictures side by side, each ``_TILE_PX`` wide."""
    side = 3 * _TILE_PX
    picture = np.full((side, side, 3), 114, np.uint8)
    boxes, classes = [], []
    for place, n in enumerate(rng.permutation(len(parts))[:9]):
        s = scaled(parts[n], _TILE_PX / parts[n].picture.shape[1])
        x, y = (place % 3) * _TILE_PX, (place // 3) * _TILE_PX
        h = min(_TILE_PX, s.picture.shape[0])
        picture[y : y + h, x : x + _TILE_PX] = s.picture[:h, :_TILE_PX]
        b = s.boxes.copy()
        b[:, [1, 3]] = b[:, [1, 3]].clip(0, h)
        keep = b[:, 3] - b[:, 1] > 4
        boxes.append(b[keep] + np.array([x, y, x, y], np.float32))
        classes.append(s.classes[keep])
    return Sample(picture, np.concatenate(boxes), np.concatenate(classes))


def main() -> None:
    p = argparse.ArgumentParser(description="Make a pool of labelled photographs.")
    p.add_argument("--labels", type=Path, default=Path("training/labels"))
    p.add_argument("--data", type=Path, required=True, help="folder with packshots/ and price_tags/")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--held-out", action="store_true", help="the frames kept for measuring instead")
    p.add_argument("--boards", type=int, default=12)
    args = p.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    frames = [
        scaled(s, SIDE_PX / max(s.picture.shape[:2]))
        for s in samples(args.labels / "price_tags.json", args.data, args.held_out)
    ]
    packs = args.labels / "packshots.json"
    if packs.is_file() and not args.held_out:
        single = samples(packs, args.data, False)
        frames += [board(single, rng) for _ in range(args.boards)]
    for i, s in enumerate(frames):
        save(s, args.out, i)
    print(f"{len(frames)} pictures, {sum(int((s.classes == PRODUCT).sum()) for s in frames)} products")


if __name__ == "__main__":
    main()
