"""How well disparity is measured, on rectified pairs with known disparity."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shelfscan.errors import BadInput
from shelfscan.evaluation.data import Report, Unreadable, need_folder, read_json
from shelfscan.model.imaging import Gray
from shelfscan.perception.stereo import disparity_map, textured

#: A pixel is bad when its disparity is off by more than this.
BAD_PX = 2.0


def evaluate_stereo(folder: Path, report: Report) -> dict[str, Any]:
    """Measure on folders with ``left.png``, ``right.png``, ``disp_left_x64.png`` (uint16, 0 unknown) and ``meta.json``.

    ``bad2``: percent of the pixels with known disparity, occluded ones included, that are wrong by more than 2 px or have
    no answer; ``valid``: share with an answer. ``max_disp`` of ``meta.json`` bounds the search, as the shelf's distance
    does on the robot. ``bad2_bare_dropped``: the same for the robot's depth, which gives no answer on bare surfaces.
    """
    names = ("left.png", "right.png", "disp_left_x64.png", "meta.json")
    pairs = sorted(p for p in need_folder(folder).iterdir() if p.is_dir())
    if not pairs:
        raise BadInput(f"{folder}: expected a folder a pair, each with {', '.join(names)}")
    missing = [f"{pair / name}: no such file; expected a pair with {', '.join(names)}" for pair in pairs for name in names
               if not (pair / name).is_file()]  # fmt: skip
    if missing:
        raise BadInput(missing)
    bad = Unreadable()
    results = []
    for n, pair in enumerate(pairs):
        report(pair.name, n / len(pairs))
        most_px, scale = _meta(pair / "meta.json")
        left, right, truth = _gray(pair / names[0], bad), _gray(pair / names[1], bad), _disparity(pair / names[2], scale, bad)
        if left is None or right is None or truth is None:
            continue
        if left.shape != right.shape or left.shape != truth.shape:
            raise BadInput(f"{pair}: left {left.shape}, right {right.shape} and disparity {truth.shape} differ in size")
        known = truth > 0
        if not known.any():
            raise BadInput(f"{pair / names[2]}: no pixel with a known disparity")
        t0 = time.perf_counter()
        found = disparity_map(left, right, 0, most_px)
        ms = 1e3 * (time.perf_counter() - t0)
        dropped = np.where(textured(left), found, np.nan)
        results.append(
            {
                "name": pair.name,
                "bad2": bad_percent(found, truth),
                "valid": round(float(np.isfinite(found[known]).mean()), 4),
                "ms": round(ms, 1),
                "bad2_bare_dropped": bad_percent(dropped, truth),
                "valid_bare_dropped": round(float(np.isfinite(dropped[known]).mean()), 4),
            }
        )
    if not results:
        raise bad.none_left()
    return {
        "pairs": results,
        "bad2_mean": round(float(np.mean([r["bad2"] for r in results])), 2),
        "bad2_bare_dropped_mean": round(float(np.mean([r["bad2_bare_dropped"] for r in results])), 2),
        "unreadable": bad.problems,
    }


def bad_percent(found: NDArray[np.float32], truth: NDArray[np.float64]) -> float:
    """Percent of the known pixels (truth > 0) that are more than `BAD_PX` off or NaN."""
    good = np.abs(found - truth) <= BAD_PX
    return round(100 * float((~good)[truth > 0].mean()), 2)


def _meta(path: Path) -> tuple[int, float]:
    """Largest disparity in pixels, rounded up, and what the disparity picture's values are multiplied by."""
    data = read_json(path, "an object with max_disp")
    try:
        most, scale = float(data["max_disp"]), float(data.get("disp_scale", 64))
        if not (0 < most < 4096 and scale > 0):
            raise ValueError
    except (TypeError, KeyError, ValueError):
        raise BadInput(f"{path}: expected max_disp in pixels and disp_scale above 0") from None
    return math.ceil(most) + 1, scale


def _gray(path: Path, bad: Unreadable) -> Gray | None:
    picture = bad.read(path)
    return None if picture is None else np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)


def _disparity(path: Path, scale: float, bad: Unreadable) -> NDArray[np.float64] | None:
    try:
        with Image.open(path) as picture:
            values = np.asarray(picture)
    except (OSError, SyntaxError, ValueError) as e:
        bad.problems.append(f"{path}: not a readable picture: {e}")
        return None
    if values.ndim != 2:
        raise BadInput(f"{path}: expected one channel of 16 bits, found {values.shape} {values.dtype}")
    return values.astype(np.float64) / scale
