"""The pictures that backends are compared on: ``python -m benchmarks.golden_pictures --out models/golden``.

Two simulated stores, one tidy and one not, two captures of each, at the size the detector works at. Only the pictures are
kept: what a backend should find in them is asked of ONNX Runtime when backends are compared, so new weights need no new
pictures. The seeds are neither those of training nor of scores.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np

from shelfscan.config import Config
from shelfscan.evaluation.speed import render_captures
from shelfscan.runfolder import write_atomic
from shelfscan.sim.build import build_store

#: Seed and level of disorder.
STORES = ((7041, 0), (7042, 2))
LONG_SIDE_PX, QUALITY = 1296, 82


def pictures(seed: int, messy: int, captures: int) -> list[np.ndarray]:
    """Upright BGR pictures, heads in turn."""
    out = []
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        build_store(store, seed=seed, size="small", messy=messy)
        for n, capture in enumerate(render_captures(store, Config(), captures)):
            frame = capture.frames[n % len(capture.frames)]
            picture = cv2.imdecode(np.frombuffer(frame.rgb_jpeg, np.uint8), cv2.IMREAD_COLOR)
            assert picture is not None
            picture = np.rot90(picture, frame.head.rgb.upright_turns)
            scale = LONG_SIDE_PX / max(picture.shape[:2])
            out.append(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    return out


def main() -> None:
    p = argparse.ArgumentParser(description="Render the pictures that backends are compared on.")
    p.add_argument("--out", type=Path, default=Path("models/golden"))
    p.add_argument("--captures", type=int, default=2, help="of each store")
    args = p.parse_args()
    found = [picture for seed, messy in STORES for picture in pictures(seed, messy, args.captures)]
    for n, picture in enumerate(found, 1):
        ok, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        assert ok
        write_atomic(args.out / f"shelf-{n}.jpg", jpeg.tobytes())
        print(f"{args.out / f'shelf-{n}.jpg'}: {picture.shape[1]}x{picture.shape[0]}, {len(jpeg)} bytes")


if __name__ == "__main__":
    main()
