"""Sheets of simulated bins: what was said, what is true, and why.

    python -m benchmarks.bin_pictures --nights OUT --seeds 31 32 ... --out docs/images/bins

``OUT`` as made by `benchmarks.stores`. The rule, so that nothing is chosen by hand: nights and bins in order; of each kind
of trouble the first bins that were right in spite of it, and of each kind of mistake the first bins it happened to. The
pictures are those the run kept as evidence.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.drawing import GREEN, INK, RED, Cell, save_jpeg, sheet

#: Troubles that a bin was right in spite of, and mistakes, each with how many are shown.
TROUBLES = ("pushed_back", "turned", "stale_planogram", "dimension_mismatch", "layout_drift", "glare", "faced_up", "misplaced")
MISTAKES = ("facings", "status", "units", "interval", "something foreign missed", "something foreign made up")
EACH = 2
COLUMNS, PICTURE_PX = 4, (250, 190)


def bins_of(nights: Path, seeds: list[int]) -> Iterator[tuple[int, Path, Mapping[str, Any], Mapping[str, str], set[str]]]:
    """(seed, run folder, what was said, the truth, its troubles) of every reachable bin that was counted."""
    for seed in seeds:
        truth = nights / f"store-{seed}" / "truth"
        with (truth / "bins.csv").open(newline="", encoding="utf-8") as f:
            true = {r["bin_id"]: r for r in csv.DictReader(f)}
        found: dict[str, set[str]] = {}
        with (truth / "findings.csv").open(newline="", encoding="utf-8") as f:
            for r in csv.DictReader(f):
                found.setdefault(r["bin_id"], set()).add(r["type"])
        again = nights / f"again-{seed}"
        run = nights / f"run-{seed}"
        said = json.loads(((again if again.is_dir() else run) / "stock_map.json").read_text())["bins"]
        for b in said:
            t = true[b["bin_id"]]
            if t["reachable"] == "1" and b["status"] != "UNSEEN" and b["evidence"]:
                troubles = found.get(b["bin_id"], set()) | ({"faced_up"} if t.get("faced_up") == "1" else set())
                yield seed, run, b, t, troubles


def mistakes(b: Mapping[str, Any], t: Mapping[str, str]) -> list[str]:
    """What is wrong with what was said."""
    units = int(t["units"])
    out = []
    if b["facings"] != int(t["facings"]):
        out.append("facings")
    if b["status"] != t["status"]:
        out.append("status")
    if abs(b["units"] - units) > 1:
        out.append("units")
    if not b["units_low"] <= units <= b["units_high"]:
        out.append("interval")
    if b["misplaced"] != (t["misplaced"] == "1"):
        out.append("something foreign missed" if t["misplaced"] == "1" else "something foreign made up")
    return out


def cell(seed: int, run: Path, b: Mapping[str, Any], t: Mapping[str, str], why: str, right: bool) -> Cell | None:
    """A bin's best picture over what was said and what is true."""
    picture = cv2.imread(str(run / b["evidence"][0]))
    if picture is None:
        return None
    said = f"said {b['facings']} facings, {b['units']:g} units ({b['units_low']}-{b['units_high']}), {b['status']}"
    true = f"true {t['facings']} facings, {t['units']} units, {t['status']}"
    lines = ((f"{seed} {b['bin_id']}: {why}", INK), (said, GREEN if right else RED), (true, INK))
    return Cell((np.asarray(picture[..., ::-1], np.uint8),), lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--nights", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    right: dict[str, list[Cell]] = {k: [] for k in TROUBLES}
    wrong: dict[str, list[Cell]] = {k: [] for k in MISTAKES}
    for seed, run, b, t, troubles in bins_of(args.nights, args.seeds):
        amiss = mistakes(b, t)
        for kind in TROUBLES:
            if not amiss and kind in troubles and len(right[kind]) < EACH:
                made = cell(seed, run, b, t, kind, True)
                if made is not None:
                    right[kind].append(made)
                break
        for kind in amiss[:1]:
            if len(wrong[kind]) < EACH:
                because = ", ".join(sorted(troubles)) or "nothing else"
                made = cell(seed, run, b, t, f"{kind} ({because})", False)
                if made is not None:
                    wrong[kind].append(made)
    for name, groups in (("right", right), ("wrong", wrong)):
        cells = [c for group in groups.values() for c in group]
        size = save_jpeg(sheet(cells, COLUMNS, PICTURE_PX), args.out / f"{name}.jpg")
        print(f"{args.out / name}.jpg: {len(cells)} bins, {size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
