"""How often a status or finding of a given confidence is right: ``python -m training.confidence --nights DIR``.

``DIR`` holds pairs of folders ``store-SEED`` and ``run-SEED`` (seeds from 100000), as ``python -m training.units --make`` makes
them. Every bin's status and every finding of these nights is compared with the truth; per status and kind of finding the raw
confidences are put into groups of at least `GROUP`, made to rise by isotonic regression, and written as tables.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy.optimize import isotonic_regression

from shelfscan.adapters.confidence_file import save_confidence
from shelfscan.adapters.ledger_sqlite import SqliteLedger
from shelfscan.adapters.pictures import gallery_shapes
from shelfscan.adapters.units_file import load_units_model
from shelfscan.audit.confidence import UNTRIED, ConfidenceModel, Table, finding_key, status_key, status_raw
from shelfscan.audit.match import BinMatch
from shelfscan.paths import shared_file
from shelfscan.sim.labels import training_bundle
from shelfscan.stock.project import StockProjector, next_door

GROUP = 30
#: ... or of so many, where the next confidence is this much higher: the rule itself makes a difference there.
SMALL, GAP = 5, 0.08
#: A kind of finding that came up less often gets no table: nothing is claimed of it.
LEAST = 15

#: False alarms per 1,000 bins that a list may hold: a quarter of what is promised, for stores differ.
FALSE_ALARMS = 0.5

Told = dict[str, list[tuple[float, bool]]]


def night(store: Path, run: Path, told: Told) -> int:
    """Add what one night tells; how many bins were seen."""
    bundle = training_bundle(store)
    with (store / "truth" / "bins.csv").open() as f:
        true = {r["bin_id"]: r["status"] for r in csv.DictReader(f)}
    with (store / "truth" / "findings.csv").open() as f:
        findings = {(r["bin_id"], r["type"]) for r in csv.DictReader(f)}
    ledger = SqliteLedger(run / "ledger.sqlite", site=bundle.store.site)
    events = [s.event for s in ledger.read()]
    ledger.close()
    units = load_units_model(shared_file("models", "units.json"))
    mission = str(events[0].payload["mission_id"])
    shapes = gallery_shapes(bundle.gallery)
    projector = StockProjector(bundle.store, bundle.catalogue, bundle.planogram, mission_id=mission, units=units, shapes=shapes)
    matches: dict[str, BinMatch] = {}
    projector.witness = lambda place, match, tops: matches.update({place.bin_id: match})  # type: ignore[method-assign]
    for event in events:
        projector.add_event(event)
    stock_map = projector.stock_map(0)
    stale = {f.bin_id for f in stock_map.findings if f.type == "stale_planogram"}
    neighbours = next_door(bundle.store.places.values(), bundle.planogram)
    seen = [b for b in stock_map.bins if b.status != "UNSEEN"]
    for b in seen:
        low_at = bundle.planogram[b.bin_id].low_at_units
        told[status_key(b, b.bin_id in stale)].append((status_raw(b, low_at), true[b.bin_id] == b.status))
    here = {b.bin_id for b in seen}
    for f_ in stock_map.findings:
        if f_.bin_id in here and f_.type not in ("low", "out_of_stock"):
            key = finding_key(f_, matches[f_.bin_id], neighbours[f_.bin_id])
            told[key].append((f_.confidence, (f_.bin_id, f_.type) in findings))
    return len(seen)


def table(cases: list[tuple[float, bool]]) -> Table:
    """Rising (raw, share right), each of at least `GROUP` cases where there are so many, fewer before a gap."""
    cases = sorted(cases)
    groups: list[list[tuple[float, bool]]] = [[]]
    for n, case in enumerate(cases):
        full = len(groups[-1]) >= GROUP and len(cases) - n >= GROUP
        # Equal values stay together: a table cannot tell them apart.
        rise = case[0] - groups[-1][-1][0] if groups[-1] else 0.0
        if (full and rise > 1e-9) or (rise > GAP and len(groups[-1]) >= SMALL):
            groups.append([])
        groups[-1].append(case)
    raw = np.array([np.mean([r for r, _ in g]) for g in groups])
    # Laplace: no group is so large that it could never be wrong.
    share = np.array([(sum(ok for _, ok in g) + 0.5) / (len(g) + 1) for g in groups])
    rising = isotonic_regression(share, weights=np.array([len(g) for g in groups], dtype=float)).x
    out: dict[float, float] = {}
    for r, p in zip(raw, rising, strict=True):
        out[round(float(r), 4)] = round(float(p), 4)
    return tuple(sorted(out.items()))


def alarm_from(model: ConfidenceModel, told: Told, bins: int) -> float:
    """The lowest confidence from which on findings bring no more false alarms than wanted, on these very nights."""
    sure: list[tuple[float, bool]] = []
    for key, cases in told.items():
        if key.startswith("finding/") or key in ("status/LOW", "status/OUT_OF_STOCK"):
            untried = UNTRIED if key.startswith("finding/") else 1.0
            sure += [(round(model.right(key, raw, untried), 3), ok) for raw, ok in cases]
    for threshold in sorted({p for p, _ in sure}):
        wrong = sum(1 for p, ok in sure if p >= threshold and not ok)
        if 1000 * wrong / bins <= FALSE_ALARMS:
            return threshold
    return 1.0


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--out", type=Path, default=Path("models/confidence.json"))
    args = parser.parse_args()
    told: Told = defaultdict(list)
    bins = sum(night(args.nights / f"store-{s}", args.nights / f"run-{s}", told) for s in args.seeds)
    tables = {k: table(v) for k, v in told.items() if len(v) >= LEAST}
    model = ConfidenceModel(tables, alarm_from(ConfidenceModel(tables), told, bins))
    facts = {
        "seeds": args.seeds,
        "bins": bins,
        "cases": {k: [len(v), sum(ok for _, ok in v)] for k, v in sorted(told.items())},
        "note": "simulated nights at disorder level 1; a site corrects this with its own recounts",
    }
    save_confidence(args.out, model, facts)
    print(f"alarms from {model.alarm_from}")
    for key in sorted(told):
        n, right = len(told[key]), sum(ok for _, ok in told[key])
        print(f"{key}: {right} of {n} right{'' if key in tables else ' (too few: no table)'} {tables.get(key, '')}")


if __name__ == "__main__":
    main()
