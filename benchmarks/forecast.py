"""Backtest of the forecast on simulated sales: weekdays, promotions, rare sellers, sold-out days, counts that are a little
wrong.

    python -m benchmarks.forecast --skus 200 --days 120 --seeds 1 2 3

Every day of the last four weeks is forecast from the days before it, by the model and by two naive ones: the same quantiles of
the SKU's own last 28 days, and those of its same weekdays. The loss is the weighted pinball loss (as in the M5 competition:
summed over SKUs and days, divided by what was sold), over the quantiles .1, .5 and .9.
"""

from __future__ import annotations

import argparse
from datetime import date, timedelta

import numpy as np

from shelfscan.stock.forecast import Day, learn, pinball

QUANTILES = (0.1, 0.5, 0.9)
FIRST = date(2026, 1, 5)
WEEK = np.array([0.85, 0.8, 0.85, 0.95, 1.25, 1.5, 0.8])


def sales(skus: int, days: int, seed: int) -> tuple[dict[str, list[Day]], dict[str, np.ndarray]]:
    """(what nights tell, what was really wanted) of each SKU."""
    rng = np.random.default_rng(seed)
    told: dict[str, list[Day]] = {}
    wanted: dict[str, np.ndarray] = {}
    for k in range(skus):
        rate = float(np.exp(rng.normal(0.3, 1.2)))
        spread = float(rng.uniform(0.05, 0.6))
        drift = np.exp(np.cumsum(rng.normal(0, 0.015, days)))
        # A SKU's weekend is not quite the store's.
        week = WEEK ** rng.uniform(0.5, 1.5)
        promotion = np.zeros(days, bool)
        for start in rng.choice(days - 7, rng.integers(0, 4), replace=False):
            promotion[start : start + 6] = True
        mean = rate * drift * week[[(FIRST + timedelta(d)).weekday() for d in range(days)]] * np.where(promotion, 2.2, 1.0)
        want = rng.negative_binomial(1 / spread, 1 / (1 + spread * mean))
        shelf = np.maximum(2, rng.poisson(2.2 * mean.mean() + 3, days))
        sold = np.minimum(want, shelf)
        # A night's count is a unit off now and then.
        seen = np.maximum(0, sold + rng.choice([-1, 0, 1], days, p=[0.04, 0.92, 0.04]))
        name = f"S{k:03d}"
        told[name] = [
            Day(FIRST + timedelta(d), float(seen[d]), bool(sold[d] >= shelf[d]), bool(promotion[d])) for d in range(days)
        ]
        wanted[name] = sold.astype(float)
    return told, wanted


def backtest(told: dict[str, list[Day]], sold: dict[str, np.ndarray], test_days: int) -> dict[str, dict[str, float]]:
    """Weighted pinball loss and share inside the middle 80 % of each forecaster."""
    days = len(next(iter(told.values())))
    loss = dict.fromkeys(("model", "naive: last 28 days", "naive: same weekdays"), 0.0)
    inside = dict.fromkeys(loss, 0)
    total, n = 0.0, 0
    for d in range(days - test_days, days):
        today = FIRST + timedelta(d)
        demand = learn(told, today)
        for sku, series in told.items():
            was, past = sold[sku][d], np.array([x.sold for x in series[:d]])
            promotion = series[d].promotion
            said = {
                "model": [demand[sku].quantile(q, today, promotion) for q in QUANTILES],
                "naive: last 28 days": np.quantile(past[-28:], QUANTILES).tolist(),
                "naive: same weekdays": np.quantile(past[d % 7 :: 7][-8:], QUANTILES).tolist(),
            }
            for name, values in said.items():
                loss[name] += sum(pinball(q, v, was) for q, v in zip(QUANTILES, values, strict=True))
                inside[name] += values[0] <= was <= values[2]
            total += was
            n += 1
    return {k: {"loss": loss[k] / total, "inside_80": inside[k] / n} for k in loss}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skus", type=int, default=200)
    parser.add_argument("--days", type=int, default=120)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    args = parser.parse_args()
    results = [backtest(*sales(args.skus, args.days, s), test_days=28) for s in args.seeds]
    print("| forecast | weighted pinball loss | inside the middle 80 % |\n|---|---|---|")
    for name in results[0]:
        losses = " ".join(f"{r[name]['loss']:.4f}" for r in results)
        share = np.mean([r[name]["inside_80"] for r in results])
        print(f"| {name} | {np.mean([r[name]['loss'] for r in results]):.4f} ({losses}) | {share:.3f} |")


if __name__ == "__main__":
    main()
