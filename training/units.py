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
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from shelfscan.adapters.ledger_sqlite import SqliteLedger
from shelfscan.adapters.pictures import gallery_shapes
from shelfscan.adapters.units_file import load_units_model, save_units_model
from shelfscan.audit.match import BinMatch, Placed
from shelfscan.audit.units import AIR_M, TOPS_DEPTH_M, UnitsModel, belief, missing_rows
from shelfscan.model.catalogue import Product
from shelfscan.model.planogram import PlanogramLine
from shelfscan.model.scan import TopLook
from shelfscan.model.store import BinPlace
from shelfscan.sim.labels import columns_of, training_bundle
from shelfscan.stock.project import StockProjector

#: A column slips by no more rows than this in the model; more is something else.
MOST_SLIP = 4
#: Added to each count, so that nothing is impossible.
SMOOTH = 0.5
TENTHS = 10
#: By how much the evidence of tops is weakened; chosen on the training nights.
TEMPERS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)

Look = tuple[float, float, float]


@dataclass
class Told:
    """What nights tell: tops and whether an item is there, slips of columns at the edge and further back, (faced up, share of
    capacity) of bins at the edge, and whole bins with what they really hold."""

    tops: list[Look] = field(default_factory=list)
    there: list[int] = field(default_factory=list)
    edge: list[int] = field(default_factory=list)
    back: list[int] = field(default_factory=list)
    faced: list[tuple[int, float]] = field(default_factory=list)
    bins: list[tuple[Sequence[Placed], PlanogramLine, Product, tuple[TopLook, ...], int]] = field(default_factory=list)


def night(store: Path, run: Path, told: Told) -> None:
    """Add what one night tells."""
    bundle = training_bundle(store)
    true = columns_of(store, bundle)
    ledger = SqliteLedger(run / "ledger.sqlite", site=bundle.store.site)
    events = [s.event for s in ledger.read()]
    ledger.close()
    projector = StockProjector(
        bundle.store,
        bundle.catalogue,
        bundle.planogram,
        mission_id=str(events[0].payload["mission_id"]),
        shapes=gallery_shapes(bundle.gallery),
    )
    seen: list[tuple[BinPlace, BinMatch, tuple[TopLook, ...]]] = []
    projector.witness = lambda place, match, tops: seen.append((place, match, tuple(tops)))  # type: ignore[method-assign]
    for event in events:
        projector.add_event(event)
    states = {b.bin_id: b for b in projector.stock_map(0).bins}
    stale = {f.rsplit("/", 1)[0] for b in states.values() for f in b.findings if f.endswith("stale_planogram")}
    for place, match, looks in seen:
        state, line = states[place.bin_id], bundle.planogram[place.bin_id]
        product = bundle.catalogue[line.sku]
        own = [p for p in match.placed if p.planned]
        if state.status == "UNSEEN" or place.bin_id in stale or not own or len(own) < len(match.placed):
            continue
        columns = true[place.bin_id]
        told.bins.append((match.placed, line, product, looks, min(line.capacity_units, sum(len(c) for c in columns))))
        rows: dict[int, list[int]] = {}
        for p in own:
            rows.setdefault(p.column, []).append(missing_rows(p.face_m[1], line, product))
        at_edge = all(m == 0 for ms in rows.values() for m in ms)
        most = sum(line.facings_deep - m for ms in rows.values() for m in ms)
        have = sum(len(c) for c in columns)
        if at_edge:
            # Faced up: nothing behind a front although there is room. Full bins stand at the edge, too.
            is_faced = have < 0.95 * most and have < most - 1
            told.faced.append((int(is_faced), have / most))
            if not is_faced:
                told.edge += [len(columns[c]) - sum(line.facings_deep - m for m in ms) for c, ms in rows.items()]
        else:
            told.back += [len(columns[c]) - sum(line.facings_deep - m for m in ms) for c, ms in rows.items() if len(ms) == 1]
        step = product.depth_m + AIR_M
        for t in looks:
            front = min((p.face_m[1] for p in own if p.column == t.column), default=None)
            if front is None or abs(t.depth_m - front) > TOPS_DEPTH_M:
                continue
            for k, look in enumerate(t.tops, start=1):
                if look is not None:
                    middle = t.depth_m + k * step + product.depth_m / 2
                    told.tops.append(look)
                    told.there.append(int(any(abs(y - middle) < 0.4 * step for y in columns[t.column])))


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
    told = Told()
    for store, run in nights:
        night(store, run, told)
    x, y = np.array(told.tops, np.float64).reshape(-1, 3), np.array(told.there)
    weights = logistic(x, y)
    shares = np.histogram([s for f, s in told.faced if f], bins=TENTHS, range=(0, 1))[0] + SMOOTH
    share = [round(float(v), 4) for v in shares / shares.sum()]
    model = UnitsModel(
        faced_up=round(sum(f for f, _ in told.faced) / max(1, len(told.faced)), 4),
        share=(*share[:-1], round(1 - sum(share[:-1]), 4)),
        slip_edge=slips(told.edge),
        slip_back=slips(told.back),
        tops=weights,
    )
    # The tops of one bin share light, angle and artwork: together they say less than each for itself.
    by_temper = {t: surprise(tempered(model, t), told) for t in TEMPERS}
    best = min(by_temper, key=lambda t: by_temper[t])
    said = (x @ np.array(weights[:3]) + weights[3]) > 0
    stats = {
        "nights": len(nights),
        "bins": len(told.bins),
        "bins_at_edge": len(told.faced),
        "tops": len(y),
        "tops_right_where_there": round(float(said[y == 1].mean()), 4),
        "tops_right_where_not": round(float((~said[y == 0]).mean()), 4),
        "temper": best,
        "surprise_nats": round(by_temper[best], 4),
        "surprise_without_tops_nats": round(surprise(tempered(model, 0.0), told), 4),
    }
    return tempered(model, best), stats


def tempered(model: UnitsModel, by: float) -> UnitsModel:
    """The model with what tops say weakened."""
    a, b, c, d = (round(by * w, 4) for w in model.tops)
    return replace(model, tops=(a, b, c, d))


def surprise(model: UnitsModel, told: Told) -> float:
    """Mean of -log p(what a bin really holds)."""
    total = 0.0
    for placed, line, product, looks, true in told.bins:
        pmf = belief(placed, line, product, looks, model)
        total -= float(np.log(max(1e-3, pmf[min(true, len(pmf) - 1)])))
    return total / max(1, len(told.bins))


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
