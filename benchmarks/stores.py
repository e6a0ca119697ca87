"""Scores of simulated stores by seed: builds each, runs one mission in one process, scores it.

    python -m benchmarks.stores --seeds 1 2 3 4 5 --out runs/seeds [--messy 1] [--size small] [--jobs 2]

Prints a Markdown table of single seeds and their mean with its 95 % interval (Student's t over seeds), and writes
``scores.json`` beside the runs. With ``--again`` finished runs are mapped anew from their own observations, in seconds a store.
Seeds from 100000 on are those of training; seeds 11 to 13 and 21 to 24 were looked at while the rules were made.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from scipy.stats import t as student

ROWS: tuple[tuple[str, str, str], ...] = (
    ("reachable bins counted", "coverage", "{:.1%}"),
    ("bin assignment", "bin_assignment_accuracy", "{:.1%}"),
    ("right SKU", "sku_top1", "{:.1%}"),
    ("facings exact", "facings_exact", "{:.1%}"),
    ("units within 1", "units_within_1", "{:.1%}"),
    ("… the oracle's, without tops", "oracle.units_within_1", "{:.1%}"),
    ("… of faced-up bins", "faced_up.units_within_1", "{:.1%}"),
    ("… of the others", "not_faced_up.units_within_1", "{:.1%}"),
    ("95 % interval holds", "interval_coverage", "{:.1%}"),
    ("mean interval width", "interval_width", "{:.2f}"),
    ("CRPS", "interval_crps", "{:.3f}"),
    ("OUT_OF_STOCK precision", "status.OUT_OF_STOCK.precision", "{:.3f}"),
    ("OUT_OF_STOCK recall", "status.OUT_OF_STOCK.recall", "{:.3f}"),
    ("LOW precision", "status.LOW.precision", "{:.2f}"),
    ("LOW recall", "status.LOW.recall", "{:.2f}"),
    ("misplaced F1", "misplaced.f1", "{:.3f}"),
    ("shelf or planogram right", "verdict_accuracy", "{:.1%}"),
    ("stale planograms told: precision", "findings.stale_planogram.precision", "{:.2f}"),
    ("stale planograms told: recall", "findings.stale_planogram.recall", "{:.2f}"),
    ("wrong sizes told: precision", "findings.dimension_mismatch.precision", "{:.2f}"),
    ("wrong sizes told: recall", "findings.dimension_mismatch.recall", "{:.2f}"),
    ("… of products that stand there", "wrong_sizes_there_recall", "{:.2f}"),
    ("shelves elsewhere told: precision", "findings.layout_drift.precision", "{:.2f}"),
    ("shelves elsewhere told: recall", "findings.layout_drift.recall", "{:.2f}"),
    ("wrong facings told: precision", "findings.wrong_facings.precision", "{:.2f}"),
    ("wrong facings told: recall", "findings.wrong_facings.recall", "{:.2f}"),
    ("overstocked told: precision", "findings.overstocked.precision", "{:.2f}"),
    ("overstocked told: recall", "findings.overstocked.recall", "{:.2f}"),
    ("false alarms per 1,000 bins", "false_alarms_per_1000", "{:.1f}"),
    ("… of all findings, those to check included", "false_findings_per_1000", "{:.1f}"),
    ("true findings that are alarms", "alarms_of_true", "{:.1%}"),
    ("lost sales in the first 50 findings", "top50_lost_sales", "{:.1%}"),
    ("… of what fifty can hold at best", "top50_of_best", "{:.1%}"),
    ("calibration error of confidences", "ece", "{:.3f}"),
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
    parser.add_argument("--jobs", type=int, default=1, help="stores at a time")
    parser.add_argument("--workers", type=int, default=0, help="processes beside each run (shelfscan run --direct --workers)")
    parser.add_argument("--again", action="store_true", help="map finished runs anew from their own observations")
    args = parser.parse_args()

    def one(seed: int) -> tuple[int, dict[str, Any]]:
        return seed, score_of(args.out, seed, args.size, args.messy, args.again, args.workers)

    with ThreadPoolExecutor(args.jobs) as pool:
        scores = dict(pool.map(one, args.seeds))
    (args.out / "scores.json").write_text(json.dumps(scores, indent=1))
    print("\n".join(table(scores)))
    return 0


def score_of(out: Path, seed: int, size: str, messy: int, again: bool, workers: int = 0) -> dict[str, Any]:
    """One seed's score; what is there already is not made again."""
    store, run = out / f"store-{seed}", out / f"run-{seed}"
    if not (store / "store.yaml").is_file():
        shelfscan("store", "build", "--seed", seed, "--size", size, "--messy", messy, "--out", store)
    if not (run / "report.json").is_file():
        begun = (run / "ledger.sqlite").is_file()
        shelfscan("run", "--direct", "--store", store, "--out", run, "--workers", workers, *(["--resume"] if begun else []))
    seconds = json.loads((run / "report.json").read_text())["seconds"]
    if again:
        mapped = out / f"again-{seed}"
        shutil.rmtree(mapped, ignore_errors=True)
        shelfscan("replay", run, "--stored", "--store", store, "--out", mapped)
        run = mapped
    score: dict[str, Any] = json.loads(shelfscan("score", run, "--truth", store / "truth", "--json"))
    return {**score, "seconds": seconds}


def table(scores: dict[int, dict[str, Any]]) -> list[str]:
    """Markdown lines: a row a measure, a column a seed, and mean ± 95 %."""
    lines = ["| seed | " + " | ".join(map(str, scores)) + " | mean |", "|---" * (len(scores) + 2) + "|"]
    for title, key, form in ROWS:
        values = [pick(s, key) for s in scores.values()]
        if all(v is None for v in values):
            continue
        cells = [form.format(v) if v is not None else "–" for v in values]
        lines.append(f"| {title} | " + " | ".join(cells) + f" | {mean_of([v for v in values if v is not None], form)} |")
    pooled = [sum(column) for column in zip(*(s["interval_pit_histogram"] for s in scores.values()), strict=True)]
    lines.append(f"\nPIT of all {sum(pooled)} bins together: largest distance from uniform {pit_distance(pooled):.3f}.")
    return lines


def mean_of(values: list[float], form: str) -> str:
    """Mean and half the width of its 95 % interval over seeds."""
    mean = form.format(fmean(values))
    if len(values) < 3 or form == "{:.0f}":
        return mean
    half = stdev(values) / math.sqrt(len(values)) * float(student.ppf(0.975, len(values) - 1))
    return f"{mean} ± {form.format(half).removesuffix('%').removesuffix(' m')}"


def pit_distance(histogram: list[int]) -> float:
    """Kolmogorov's distance of a histogram over [0, 1] from uniform, at its edges."""
    total, upto, worst = sum(histogram), 0, 0.0
    for k, n in enumerate(histogram, start=1):
        upto += n
        worst = max(worst, abs(upto / total - k / len(histogram)))
    return worst


def shelfscan(*args: object) -> str:
    """Run the command line; its stdout. Its errors are shown and end this."""
    done = subprocess.run([sys.executable, "-m", "shelfscan.cli.main", *map(str, args)], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"shelfscan {' '.join(map(str, args))}: exit {done.returncode}")
    return done.stdout


def pick(data: dict[str, Any], dotted: str) -> float | None:
    value: Any = data
    for name in dotted.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return None if value is None else float(value)


if __name__ == "__main__":
    sys.exit(main())
