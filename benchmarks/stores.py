"""Scores of simulated stores by seed: builds each, runs one mission in one process, scores it.

    python -m benchmarks.stores --seeds 1 2 3 4 5 --out runs/seeds

Prints a Markdown table of single seeds and their mean, and writes ``scores.json`` beside the runs. Seeds from 100000 on
are those of training; seeds 11 to 13 were looked at while the rules were made.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

ROWS: tuple[tuple[str, str, str], ...] = (
    ("reachable bins counted", "coverage", "{:.1%}"),
    ("bin assignment", "bin_assignment_accuracy", "{:.1%}"),
    ("right SKU", "sku_top1", "{:.1%}"),
    ("facings exact", "facings_exact", "{:.1%}"),
    ("units within 1", "units_within_1", "{:.1%}"),
    ("95 % interval holds", "interval_coverage", "{:.1%}"),
    ("OUT_OF_STOCK precision", "status.OUT_OF_STOCK.precision", "{:.2f}"),
    ("OUT_OF_STOCK recall", "status.OUT_OF_STOCK.recall", "{:.2f}"),
    ("LOW precision", "status.LOW.precision", "{:.2f}"),
    ("LOW recall", "status.LOW.recall", "{:.2f}"),
    ("misplaced F1", "misplaced.f1", "{:.2f}"),
    ("price tags answered", "tag_answered", "{:.1%}"),
    ("… right when answered", "tag_exact", "{:.1%}"),
    ("position error p95", "position_error_m.p95", "{:.3f} m"),
    ("double counts", "duplicates", "{:.0f}"),
    ("seconds", "seconds", "{:.0f}"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--size", default="small")
    parser.add_argument("--messy", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    scores: dict[int, dict[str, Any]] = {}
    for seed in args.seeds:
        store, run = args.out / f"store-{seed}", args.out / f"run-{seed}"
        if not (store / "store.yaml").is_file():
            shelfscan("store", "build", "--seed", seed, "--size", args.size, "--messy", args.messy, "--out", store)
        shelfscan("run", "--direct", "--store", store, "--out", run)
        scores[seed] = json.loads(shelfscan("score", run, "--truth", store / "truth", "--json"))
        (args.out / "scores.json").write_text(json.dumps(scores, indent=1))
    print("| seed | " + " | ".join(map(str, scores)) + " | mean |")
    print("|---" * (len(scores) + 2) + "|")
    for title, key, form in ROWS:
        values = [pick(s, key) for s in scores.values()]
        known = [v for v in values if v is not None]
        cells = [form.format(v) if v is not None else "–" for v in [*values, fmean(known) if known else None]]
        print(f"| {title} | " + " | ".join(cells) + " |")
    return 0


def shelfscan(*args: object) -> str:
    """Run the command line; its stdout. Its errors are shown and end this."""
    done = subprocess.run([sys.executable, "-m", "shelfscan.cli.main", *map(str, args)], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"shelfscan {' '.join(map(str, args))}: exit {done.returncode}")
    return done.stdout


def pick(data: dict[str, Any], dotted: str) -> float | None:
    value: Any = data
    for name in dotted.split("."):
        value = value[name]
    return None if value is None else float(value)


if __name__ == "__main__":
    sys.exit(main())
