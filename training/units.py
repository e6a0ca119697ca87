"""How goods stand, learned from simulated nights: ``python -m training.units --nights DIR [--out models/units.json]``.

``DIR`` holds pairs of folders ``store-SEED`` and ``run-SEED`` (seeds from 100000), made by
``python -m training.units --make DIR --seeds 100001 100002 ... [--messy 1]``. From their ledgers and truth come the share of
bins that were faced up, what such bins hold, how often a front's depth is a row off, and what the top of an item that is there
looks like.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from shelfscan.adapters.ledger_sqlite import SqliteLedger
from shelfscan.adapters.units_file import load_units_model, save_units_model
from shelfscan.audit.match import BinMatch
from shelfscan.audit.units import TOPS_DEPTH_M, UnitsModel, missing_rows
from shelfscan.model.scan import TopLook
from shelfscan.model.store import BinPlace
from shelfscan.sim.labels import columns_of, training_bundle
from shelfscan.stock.project import StockProjector

#: A column slips by no more rows than this in the model; more is something else.
MOST_SLIP = 4
#: Added to each count, so that nothing is impossible.
SMOOTH = 0.5
TENTHS = 10

Bin = tuple[BinPlace, BinMatch, tuple[TopLook, ...]]


def night(
    store: Path, run: Path
) -> tuple[list[tuple[float, float, float]], list[int], list[int], list[int], list[tuple[int, float]]]:
    """(tops, whether an item is there, slips at the edge, slips further back, (faced up, share of capacity)) of one night."""
    bundle = training_bundle(store)
    true = columns_of(store, bundle)
    projector = StockProjector(bundle.store, bundle.catalogue, bundle.planogram, mission_id="")
    ledger = SqliteLedger(run / "ledger.sqlite", site=bundle.store.site)
    events = [s.event for s in ledger.read()]
    ledger.close()
    projector = StockProjector(
        bundle.store, bundle.catalogue, bundle.planogram, mission_id=str(events[0].payload["mission_id"])
    )
    seen: list[Bin] = []
    projector.witness = lambda place, match, tops: seen.append((place, match, tuple(tops)))  # type: ignore[method-assign]
    for event in events:
        projector.add_event(event)
    states = {b.bin_id: b for b in projector.stock_map(0).bins}
    stale = {f.rsplit("/", 1)[0] for b in states.values() for f in b.findings if f.endswith("stale_planogram")}
    tops: list[tuple[float, float, float]] = []
    there: list[int] = []
    edge: list[int] = []
    back: list[int] = []
    faced: list[tuple[int, float]] = []
    for place, match, looks in seen:
        state, line = states[place.bin_id], bundle.planogram[place.bin_id]
        product = bundle.catalogue[line.sku]
        own = [p for p in match.placed if p.planned]
        if state.status == "UNSEEN" or place.bin_id in stale or not own or len(own) < len(match.placed):
            continue
        columns = true[place.bin_id]
        rows: dict[int, list[int]] = {}
        for p in own:
            rows.setdefault(p.column, []).append(missing_rows(p.face_m[1], line, product))
        at_edge = all(m == 0 for ms in rows.values() for m in ms)
        told = sum(line.facings_deep - m for ms in rows.values() for m in ms)
        have = sum(len(c) for c in columns)
        if at_edge:
            # Faced up: nothing behind a front although there is room. Full bins stand at the edge, too.
            is_faced = have < 0.95 * told and have < told - 1
            faced.append((int(is_faced), have / told))
            edge += [len(columns[c]) - sum(line.facings_deep - m for m in ms) for c, ms in rows.items()] if not is_faced else []
        else:
            back += [len(columns[c]) - sum(line.facings_deep - m for m in ms) for c, ms in rows.items() if len(ms) == 1]
        step = product.depth_m + 0.004
        for t in looks:
            front = min((p.face_m[1] for p in own if p.column == t.column), default=None)
            if front is None or abs(t.depth_m - front) > TOPS_DEPTH_M:
                continue
            for k, look in enumerate(t.tops, start=1):
                if look is not None:
                    middle = t.depth_m + k * step + product.depth_m / 2
                    tops.append(look)
                    there.append(int(any(abs(y - middle) < 0.4 * step for y in columns[t.column])))
    return tops, there, edge, back, faced


def logistic(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float, float]:
    """Weights and constant of a logistic regression in which both classes weigh the same, lightly regularised."""
    A = np.hstack([x, np.ones((len(x), 1))])
    scale = np.array([*np.maximum(x.std(axis=0), 1e-6), 1.0])
    weight = np.where(y == 1, 0.5 / max(1, y.sum()), 0.5 / max(1, (1 - y).sum()))

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        z = (A / scale) @ w
        value = float((weight * np.logaddexp(0, np.where(y == 1, -z, z))).sum() + 1e-4 * (w[:-1] ** 2).sum())
        p = 1 / (1 + np.exp(-z))
        grad = (A / scale).T @ (weight * (p - y)) + 2e-4 * np.append(w[:-1], 0.0)
        return value, grad

    w = minimize(loss, np.zeros(4), jac=True, method="L-BFGS-B").x / scale
    a, b, c, constant = (round(float(v), 4) for v in w)
    return a, b, c, constant


def slips(values: list[int]) -> tuple[tuple[int, float], ...]:
    """Frequencies of slips, those beyond `MOST_SLIP` left out."""
    count = Counter(v for v in values if abs(v) <= MOST_SLIP)
    total = sum(count.values()) + SMOOTH * 3
    return tuple((n, round((count[n] + (SMOOTH if abs(n) <= 1 else 0)) / total, 5)) for n in sorted({*count, -1, 0, 1}))


def learn(nights: list[tuple[Path, Path]]) -> tuple[UnitsModel, dict[str, float]]:
    """The model from pairs of (store, run), and what it was learned from."""
    tops: list[tuple[float, float, float]] = []
    there: list[int] = []
    edge: list[int] = []
    back: list[int] = []
    faced: list[tuple[int, float]] = []
    for store, run in nights:
        a, b, c, d, e = night(store, run)
        tops, there, edge, back, faced = tops + a, there + b, edge + c, back + d, faced + e
    x, y = np.array(tops, np.float64).reshape(-1, 3), np.array(there)
    weights = logistic(x, y)
    shares = np.histogram([s for f, s in faced if f], bins=TENTHS, range=(0, 1))[0] + SMOOTH
    model = UnitsModel(
        faced_up=round(sum(f for f, _ in faced) / max(1, len(faced)), 4),
        share=tuple(round(float(v), 4) for v in shares / shares.sum()),
        slip_edge=slips(edge),
        slip_back=slips(back),
        tops=weights,
    )
    model = replace(model, share=(*model.share[:-1], round(1 - sum(model.share[:-1]), 4)))
    said = (x @ np.array(weights[:3]) + weights[3]) > 0
    stats = {
        "nights": len(nights),
        "bins_at_edge": len(faced),
        "tops": len(y),
        "tops_right_where_there": round(float(said[y == 1].mean()), 4),
        "tops_right_where_not": round(float((~said[y == 0]).mean()), 4),
    }
    return model, stats


def make(folder: Path, seeds: list[int], messy: int, size: str) -> None:
    """Build the stores and run the nights that are missing."""
    for seed in seeds:
        store, run = folder / f"store-{seed}", folder / f"run-{seed}"
        if not store.exists():
            command = ["store", "build", "--seed", str(seed), "--size", size, "--messy", str(messy), "--out", str(store)]
            subprocess.run([sys.executable, "-c", "from shelfscan.cli.main import main; main()", *command], check=True)
        if not (run / "report.json").exists():
            command = ["run", "--direct", "--store", str(store), "--out", str(run)]
            subprocess.run([sys.executable, "-c", "from shelfscan.cli.main import main; main()", *command], check=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nights", type=Path, help="folder with store-SEED and run-SEED pairs to learn from")
    parser.add_argument("--make", type=Path, help="folder to make such nights in")
    parser.add_argument("--seeds", type=int, nargs="*", default=[])
    parser.add_argument("--messy", type=int, default=1)
    parser.add_argument("--size", default="small")
    parser.add_argument("--out", type=Path, default=Path("models/units.json"))
    args = parser.parse_args()
    if args.make:
        make(args.make, args.seeds, args.messy, args.size)
    if args.nights:
        stores = sorted(args.nights.glob("store-1[0-9][0-9][0-9][0-9][0-9]"))
        pairs = [(s, s.with_name(s.name.replace("store-", "run-"))) for s in stores]
        pairs = [(s, r) for s, r in pairs if (r / "report.json").exists()]
        model, stats = learn(pairs)
        save_units_model(args.out, model, {"seeds": [s.name.removeprefix("store-") for s, _ in pairs], **stats})
        print(load_units_model(args.out), stats)


if __name__ == "__main__":
    main()
