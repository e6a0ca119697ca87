"""Measure a price reader: ``python -m training.reader.evaluate MODEL.onnx --data DATA [--fonts FOLDER]``.

On the photographed tags of frames never trained on (true boxes, padded as the pipeline does) and on tags drawn with fonts never
trained on. Prints, for several least confidences, the share answered and the share right of those.
"""

# ruff: noqa: E501
from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

from shelfscan.adapters._price_net import read_price
from shelfscan.perception.price_map import CENTS, MARK, WHOLE
from training.reader.real import HELD_OUT, labelled
from training.reader.render import Fonts, flat_tag, spoil

LEVELS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


def table(name: str, rows: list[tuple[str, str, float]]) -> None:
    """Print how (wanted, said, confidence) comes out at every level."""
    print(f"{name}: {len(rows)} tags")
    for level in LEVELS:
        said = [(w, s) for w, s, c in rows if s and c >= level]
        right = sum(w == s for w, s in said)
        print(
            f"  confidence >= {level:.1f}: answered {len(said) / len(rows):.3f}, right {right / max(1, len(said)):.4f} ({len(said) - right} wrong)"
        )


def main() -> None:
    p = argparse.ArgumentParser(description="Measure a price reader.")
    p.add_argument("model", type=Path)
    p.add_argument("--data", type=Path, help="folder with price_tags/")
    p.add_argument("--labels", type=Path, default=Path("training/reader/labels/tag_prices.json"))
    p.add_argument("--fonts", type=Path, help="folder with fonts/ for drawn tags")
    p.add_argument("--drawn", type=int, default=600)
    p.add_argument("--verbose", action="store_true")
    args = p.parse_args()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(args.model), options)

    def run(x: np.ndarray) -> np.ndarray:
        return np.asarray(session.run(["map"], {"tags": x})[0])

    if args.data:
        for held_out in (True, False):
            rows = []
            frame, name = None, ""
            for tag in labelled(args.labels, held_out):
                if tag["file"] != name:
                    name = tag["file"]
                    frame = cv2.imread(str(args.data / "price_tags" / "images" / name))[..., ::-1]
                x, y, w, h = tag["box"]
                pad = 0.06 * w
                crop = frame[max(0, int(y - pad)) : int(y + h + pad) + 1, max(0, int(x - pad)) : int(x + w + pad) + 1]
                price = read_price(run, np.ascontiguousarray(crop))
                rows.append((tag["price"], price.text, price.confidence))
                if args.verbose and (price.text != tag["price"] or price.confidence < 0.5):
                    print(f"  {name} {tag['box'][:2]} {tag['price']}: {price}")
            table(f"{'held-out' if held_out else 'trained'} frames ({len(HELD_OUT)} held out)", rows)
    if args.fonts:
        fonts = Fonts(args.fonts / "fonts", held_out=True)
        rng = np.random.default_rng(7)
        rows = []
        while len(rows) < args.drawn:
            picture, truth = spoil(rng, *flat_tag(rng, fonts), [])
            part = truth[np.isin(truth[:, 5], (WHOLE, CENTS))]
            part = part[np.argsort(part[:, 0])]
            digits = part[part[:, 4] < MARK]
            if (part[:, 4] >= MARK + 1).any() or not len(digits):
                rows.append(("", *(lambda q: (q.text, q.confidence))(read_price(run, picture))))
                continue
            whole = "".join(str(int(c)) for c in digits[digits[:, 5] == WHOLE, 4])
            cents = "".join(str(int(c)) for c in digits[digits[:, 5] == CENTS, 4])
            price = read_price(run, picture)
            wanted = f"{whole}.{cents}" if cents else whole
            rows.append((wanted, price.text, price.confidence))
            if args.verbose and price.text and price.text != wanted and price.confidence > 0.4:
                print(f"  drawn {len(rows)} {wanted}: {price}")
        table("drawn with fonts never trained on", rows)


if __name__ == "__main__":
    main()
