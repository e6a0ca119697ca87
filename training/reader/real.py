"""Photographed tags with marked digits: ``python -m training.reader.real --labels training/reader/labels/tag_prices.json --data DATA --out FOLDER``.

The photographs are those of `price_tags` (CC BY 4.0); prices without a label were read by the project. Digits are found as
dark (or red) pieces of one height in a row, as many as the price has; tags where that fails are left out. Backgrounds are cut from the
same frames and from `packshots` (MIT).
"""

# ruff: noqa: E501
from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.perception.price_map import OTHER, WHOLE
from training.reader.render import Picture

#: Frames never trained on. Shops were photographed in several frames, and a tag may be seen in more than one: these seven
#: share no tag with the others.
HELD_OUT = (
    "20240913_161240_1108_1.jpg", "20240913_161256_1108_3.jpg", "20240913_161312_1107_1.jpg", "20240913_161312_1107_2.jpg",
    "20250529_032222-285.jpg", "20250529_050645-167.jpg", "20250529_050706-168.jpg",
)  # fmt: skip
_MARGIN = 0.25
_SCALE = 4


def labelled(labels: Path, held_out: bool) -> Iterator[dict[str, Any]]:
    """The tags of the frames held out, or of the others: ``file``, ``box`` (x, y, w, h), ``price``, ``by``."""
    for row in json.loads(labels.read_text(encoding="utf-8"))["tags"]:
        if (row["file"] in HELD_OUT) == held_out:
            yield row


def digits(tag: Picture, price: str) -> NDArray[np.float64] | None:
    """Boxes (N, 4) of a price's digits in a tag, left to right; None when they are not found for sure."""
    big = cv2.resize(tag, None, fx=_SCALE, fy=_SCALE, interpolation=cv2.INTER_CUBIC).astype(np.float32)
    dark = 255 - big.max(axis=2)
    red = big[..., 0] - (big[..., 1] + big[..., 2]) / 2
    for map_ in (red, dark):
        m = np.clip(map_ - np.percentile(map_, 5), 0, 255).astype(np.uint8)
        m = cv2.GaussianBlur(m, (0, 0), 1.0)
        if m.max() < 40:
            continue
        for share in (1.0, 0.8, 1.2, 0.6):
            level = cv2.threshold(m, 0, 255, cv2.THRESH_OTSU)[0] * share
            _, _, stats, _ = cv2.connectedComponentsWithStats((m > level).astype(np.uint8), connectivity=4)
            h = tag.shape[0] * _SCALE
            parts = [
                s for s in stats[1:] if 0.13 * h < s[3] < 0.6 * h and 0.12 < s[2] / s[3] < 1.15 and s[4] > 0.2 * s[2] * s[3]
            ]
            for seed in sorted(parts, key=lambda s: -s[3]):
                row = [s for s in parts if abs(s[3] - seed[3]) < 0.16 * seed[3] and abs(s[1] - seed[1]) < 0.3 * seed[3]]
                row.sort(key=lambda s: s[0])
                gaps = [b[0] - (a[0] + a[2]) for a, b in itertools.pairwise(row)]
                if len(row) == len(price) and all(-0.1 * seed[3] < g < 0.6 * seed[3] for g in gaps):
                    return np.array([[s[0], s[1], s[0] + s[2], s[1] + s[3]] for s in row], np.float64) / _SCALE
    return _shared(red, price)


def _shared(red: NDArray[np.float32], price: str) -> NDArray[np.float64] | None:
    """Red digits that touch each other: the piece they make, shared out evenly (electronic tags set them so)."""
    h, w = red.shape
    m = cv2.GaussianBlur(np.clip(red - np.median(red), 0, 255).astype(np.uint8), (0, 0), 1.5)
    if m.max() < 30:
        return None
    for share in (0.5, 0.4, 0.6):
        joined = cv2.morphologyEx((m > share * m.max()).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 17), np.uint8))
        _, _, stats, _ = cv2.connectedComponentsWithStats(joined)
        for x, y, a, b, n in sorted(stats[1:].tolist(), key=lambda s: -s[4])[:1]:
            each = a / len(price) / b
            inside = x > 0.04 * w and x + a < 0.97 * w
            if 0.15 * h < b < 0.5 * h and 0.45 < each < 1.0 and n > 0.4 * a * b and inside:
                step = a / len(price)
                return np.array([[x + i * step, y, x + (i + 1) * step, y + b] for i in range(len(price))], np.float64) / _SCALE
    return None


def main() -> None:
    p = argparse.ArgumentParser(description="Mark the digits of photographed tags.")
    p.add_argument("--labels", type=Path, default=Path("training/reader/labels/tag_prices.json"))
    p.add_argument("--data", type=Path, required=True, help="folder with price_tags/ and packshots/")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--backgrounds", type=int, default=196)
    args = p.parse_args()
    out: dict[str, Any] = {}
    count = left = 0
    rows = list(labelled(args.labels, False))
    frames = sorted({r["file"] for r in rows})
    rng = np.random.default_rng(0)
    patches = []
    for file in frames:
        frame = cv2.imread(str(args.data / "price_tags" / "images" / file))[..., ::-1]
        for row in (r for r in rows if r["file"] == file):
            x, y, w, h = row["box"]
            x0, y0 = int(max(0, x - _MARGIN * w)), int(max(0, y - _MARGIN * h))
            x1, y1 = int(min(frame.shape[1], x + w + _MARGIN * w)), int(min(frame.shape[0], y + h + _MARGIN * h))
            tag = frame[max(0, int(y)) : int(y + h) + 1, max(0, int(x)) : int(x + w) + 1]
            # A badge's figures are not marked: such a tag would teach that they are none.
            boxes = None if row.get("badge") else digits(np.ascontiguousarray(tag), row["price"])
            if boxes is None:
                left += 1
                print(f"{file} {row['box'][:2]} {row['price']}: digits not found")
                continue
            boxes += np.array([max(0, int(x)) - x0, max(0, int(y)) - y0] * 2)
            truth = [[*b, int(d), WHOLE] for b, d in zip(boxes, row["price"], strict=True)]
            jpeg = cv2.imencode(".jpg", frame[y0:y1, x0:x1][..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
            out |= {
                f"jpeg{count}": jpeg,
                f"rows{count}": np.array(truth),
                f"tag{count}": np.array([x - x0, y - y0, x + w - x0, y + h - y0]),
            }
            count += 1
        patches += [_patch(frame, rng) for _ in range(args.backgrounds // 2 // len(frames))]
    packs = sorted((args.data / "packshots" / "natural").rglob("*.jpg"))
    for i in rng.permutation(len(packs))[: args.backgrounds - len(patches)]:
        patches.append(_patch(cv2.imread(str(packs[i]))[..., ::-1], rng))
    args.out.mkdir(parents=True, exist_ok=True)
    np.savez(args.out / "tags.npz", count=count, **out)
    side = 14
    sheet = np.vstack([np.hstack(patches[i : i + side]) for i in range(0, len(patches) // side * side, side)])
    cv2.imwrite(str(args.out / "backgrounds.jpg"), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    print(f"{count} tags, {left} without digits, {len(patches)} backgrounds; role of other letters: {OTHER}")


def _patch(frame: Picture, rng: np.random.Generator) -> Picture:
    side = int(rng.integers(96, min(260, *frame.shape[:2])))
    x, y = int(rng.integers(frame.shape[1] - side + 1)), int(rng.integers(frame.shape[0] - side + 1))
    return cv2.resize(np.ascontiguousarray(frame[y : y + side, x : x + side]), (96, 96), interpolation=cv2.INTER_AREA)


if __name__ == "__main__":
    main()
