"""Which findings are right, type by type: of all that are told, of those that are alarms, and of those that are there.

    python -m benchmarks.findings --nights OUT --seeds 31 32 ... [--maps again]

``OUT`` holds ``store-SEED`` and ``run-SEED`` (or ``again-SEED``) as ``benchmarks.stores`` leaves them. Only bins that were
counted and could be: the nights together, with Wilson's 95 % interval of the alarms. All of it is of simulated nights.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter
from pathlib import Path

from scipy.stats import binomtest

#: What the simulator writes down as a cause and nobody is to be told.
NO_FINDING = frozenset({"glare"})


class Tally:
    """Findings by type: told and right, alarms and right, there."""

    def __init__(self) -> None:
        self.told, self.right = Counter[str](), Counter[str]()
        self.alarms, self.alarms_right = Counter[str](), Counter[str]()
        self.there = Counter[str]()
        self.bins = 0

    def add(self, store: Path, run: Path) -> None:
        """Count one night."""
        with (store / "truth" / "bins.csv").open() as f:
            reachable = {r["bin_id"] for r in csv.DictReader(f) if r["reachable"] == "1"}
        with (store / "truth" / "findings.csv").open() as f:
            true = {(r["bin_id"], r["type"]) for r in csv.DictReader(f)}
        data = json.loads((run / "stock_map.json").read_text())
        seen = {b["bin_id"] for b in data["bins"] if b["status"] != "UNSEEN"} & reachable
        self.bins += len(seen)
        self.there.update(kind for bin_id, kind in true if bin_id in seen)
        for finding in data["findings"]:
            if finding["bin_id"] not in seen:
                continue
            kind = finding["type"]
            ok = (finding["bin_id"], kind) in true
            self.told[kind] += 1
            self.right[kind] += ok
            if finding["alarm"]:
                self.alarms[kind] += 1
                self.alarms_right[kind] += ok


def table(t: Tally) -> list[str]:
    """Markdown lines: a row a type, the most frequent alarms first."""
    lines = ["| finding | told | right | alarms | right | 95 % | there | told of them |", "|---|---|---|---|---|---|---|---|"]
    kinds = (set(t.told) | set(t.there)) - NO_FINDING
    for kind in sorted(kinds, key=lambda k: (-t.alarms[k], -t.told[k], k)):
        told, alarms, there = t.told[kind], t.alarms[kind], t.there[kind]
        share = f"{t.right[kind] / told:.3f}" if told else "–"
        alarm_share, interval = "–", ""
        if alarms:
            ci = binomtest(t.alarms_right[kind], alarms).proportion_ci(0.95, method="wilson")
            alarm_share, interval = f"{t.alarms_right[kind] / alarms:.3f}", f"{ci.low:.3f} to {ci.high:.3f}"
        recall = f"{t.right[kind] / there:.2f}" if there else "–"
        lines.append(f"| `{kind}` | {told} | {share} | {alarms} | {alarm_share} | {interval} | {there} | {recall} |")
    alarms, right = sum(t.alarms.values()), sum(t.alarms_right.values())
    lines.append(f"\n{t.bins} bins, {alarms} alarms, {alarms - right} of them not so.")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--nights", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--maps", default="run")
    args = parser.parse_args()
    tally = Tally()
    for seed in args.seeds:
        tally.add(args.nights / f"store-{seed}", args.nights / f"{args.maps}-{seed}")
    print("\n".join(table(tally)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
