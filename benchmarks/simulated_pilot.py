"""A pilot in a simulated store: the truth counts for the staff, with the mistakes that people make.

    python -m benchmarks.simulated_pilot --run RUN --store STORE --count 150 --out DIR [--slips 0.02]

Writes ``DIR/plan.csv`` and ``DIR/counts.csv``; then ``shelfscan pilot score RUN DIR/counts.csv`` is the report.
"""

from __future__ import annotations

import argparse
import csv
import random
import subprocess
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slips", type=float, default=0.02, help="share of counts that a person gets wrong by one")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    plan = args.out / "plan.csv"
    command = ["pilot", "plan", args.run, "--store", args.store, "--count", args.count, "--seed", args.seed, "--out", plan]
    subprocess.run([sys.executable, "-m", "shelfscan.cli.main", *map(str, command)], check=True)
    with (args.store / "truth" / "bins.csv").open(newline="", encoding="utf-8") as f:
        units = {r["bin_id"]: int(r["units"]) for r in csv.DictReader(f)}
    rng = random.Random(args.seed)
    with plan.open(newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    for row in rows:
        true = units[row["bin_id"]]
        row["counted"] = str(max(0, true + rng.choice((-1, 1))) if rng.random() < args.slips else true)
    with (args.out / "counts.csv").open("w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(f"{args.out / 'counts.csv'}: {len(rows)} counts")
    return 0


if __name__ == "__main__":
    sys.exit(main())
