"""How often a stated confidence is right: the reliability diagram of scored nights.

    python -m benchmarks.reliability --nights OUT --seeds 31 32 ... [--maps again] [--picture reliability.svg]

``OUT`` holds ``store-SEED`` and ``run-SEED`` (or ``again-SEED``) as ``benchmarks.stores`` leaves them. Statuses and findings
are put into bands of confidence; a band's share right comes with Wilson's 95 % interval. All of it is of simulated nights.
"""

from __future__ import annotations

import argparse
import csv
import json
from itertools import pairwise
from pathlib import Path

from scipy.stats import binomtest

BANDS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0001)
Case = tuple[float, bool]


def cases_of(nights: Path, maps: str, seed: int) -> tuple[list[Case], list[Case]]:
    """(confidence, right) of statuses and of findings of one night."""
    store, run = nights / f"store-{seed}", nights / f"{maps}-{seed}"
    with (store / "truth" / "bins.csv").open() as f:
        true = {r["bin_id"]: r["status"] for r in csv.DictReader(f) if r["reachable"] == "1"}
    with (store / "truth" / "findings.csv").open() as f:
        findings = {(r["bin_id"], r["type"]) for r in csv.DictReader(f)}
    data = json.loads((run / "stock_map.json").read_text())
    seen = {b["bin_id"]: b for b in data["bins"] if b["status"] != "UNSEEN" and b["bin_id"] in true}
    statuses = [(b["confidence"], b["status"] == true[i]) for i, b in seen.items()]
    told = [(x["confidence"], (x["bin_id"], x["type"]) in findings) for x in data["findings"] if x["bin_id"] in seen]
    return statuses, told


def bands(cases: list[Case]) -> list[tuple[float, float, float, float, int]]:
    """(stated, right, low, high, cases) of each band that has any."""
    out = []
    for low, high in pairwise(BANDS):
        here = [c for c in cases if low <= c[0] < high]
        if here:
            right = sum(ok for _, ok in here)
            ci = binomtest(right, len(here)).proportion_ci(0.95, method="wilson")
            stated = sum(c for c, _ in here) / len(here)
            out.append((stated, right / len(here), float(ci.low), float(ci.high), len(here)))
    return out


def svg(groups: dict[str, list[tuple[float, float, float, float, int]]]) -> str:
    """Stated against right, from one half up: the diagonal is what is meant."""
    size, pad, low = 420, 46, 0.5

    def x(v: float) -> float:
        return pad + (max(v, low) - low) / (1 - low) * (size - 2 * pad)

    def y(v: float) -> float:
        return size - x(v)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" font-family="sans-serif" font-size="12">']
    out.append(f'<rect width="{size}" height="{size}" fill="#fff"/>')
    out.append(f'<path d="M{x(low)} {y(low)}L{x(1)} {y(1)}" stroke="#999" stroke-dasharray="4 4"/>')
    for v in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        out.append(f'<text x="{x(v)}" y="{size - pad + 18}" text-anchor="middle" fill="#555">{v:.1f}</text>')
        out.append(f'<text x="{pad - 8}" y="{y(v) + 4}" text-anchor="end" fill="#555">{v:.1f}</text>')
        out.append(f'<path d="M{x(v)} {y(low)}V{y(1)}M{x(low)} {y(v)}H{x(1)}" stroke="#eee"/>')
    for n, (name, rows) in enumerate(groups.items()):
        colour = ("#2b6cb0", "#c05621")[n % 2]
        for stated, right, a, b, count in rows:
            out.append(f'<path d="M{x(stated):.1f} {y(a):.1f}V{y(b):.1f}" stroke="{colour}"/>')
            out.append(
                f'<circle cx="{x(stated):.1f}" cy="{y(right):.1f}" r="4" fill="{colour}"><title>{count}</title></circle>'
            )
        out.append(f'<circle cx="{pad + 14}" cy="{pad + 14 + 18 * n}" r="4" fill="{colour}"/>')
        out.append(f'<text x="{pad + 24}" y="{pad + 18 + 18 * n}">{name}</text>')
    out.append(f'<text x="{size / 2}" y="{size - 8}" text-anchor="middle">stated confidence</text>')
    out.append(
        f'<text x="14" y="{size / 2}" transform="rotate(-90 14 {size / 2})" text-anchor="middle">share that is right</text>'
    )
    return "\n".join([*out, "</svg>"]) + "\n"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--maps", default="run")
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    statuses: list[Case] = []
    findings: list[Case] = []
    for seed in args.seeds:
        a, b = cases_of(args.nights, args.maps, seed)
        statuses += a
        findings += b
    groups = {"statuses of bins": bands(statuses), "findings": bands(findings)}
    for name, rows in groups.items():
        print(f"\n| {name}: stated | right | 95 % | cases |\n|---|---|---|---|")
        for stated, right, low, high, count in rows:
            print(f"| {stated:.3f} | {right:.3f} | {low:.3f} to {high:.3f} | {count} |")
    if args.picture is not None:
        args.picture.write_text(svg(groups))


if __name__ == "__main__":
    main()
