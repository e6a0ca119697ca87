"""A Tryton server's own numbers before and after a nightly run, with sales made while the robot scans.

    scripts/tryton_server.sh DIR PORT STORE        # a test server with the store's opening stock
    python -m benchmarks.tryton_night --address http://user:password@host:port/database --store STORE --run RUN

Scans the store in one process, sells single pieces at some locations meanwhile, posts what the rules let post without a person,
and then checks Tryton's stock location by location. The opening stock must be older than the rules' margin for clocks; the
script waits for that. Ends with 1 when a number changed that had no business to, or a sale was undone.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from shelfscan.adapters.ledger_sqlite import SqliteLedger
from shelfscan.bundle import load_bundle
from shelfscan.evaluation.tryton_night import TrytonServer, TrytonTill
from shelfscan.runinfo import read_run_info
from shelfscan.runs import read_map
from shelfscan.wms.report import SyncLine, SyncReport
from shelfscan.wms.rules import ApprovalPolicy, to_ns
from shelfscan.wms.sync import sync_run

Pair = tuple[str, str]
MARGIN_S = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--address", required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True, help="run folder to make")
    parser.add_argument("--sales", type=int, default=12)
    args = parser.parse_args()
    bundle = load_bundle(args.store)
    till = TrytonServer.of(args.address).client(bundle.wms)
    newest = max((m.moved_at_ns for m in till.pull_movements(0)), default=0) / 1e9
    time.sleep(max(0.0, newest + MARGIN_S + 2 - time.time()))
    before = stock(till)
    command = [
        sys.executable,
        "-m",
        "shelfscan.cli.main",
        "run",
        "--direct",
        "--store",
        str(args.store),
        "--out",
        str(args.run),
    ]
    scan = subprocess.Popen([*command, "--json"], stdout=subprocess.DEVNULL)
    sold = sell(till, before, args.sales)
    if scan.wait() != 0:
        return 1
    report = sync(args.run, bundle, till)
    after = stock(till)
    print(f"{len(before)} stock records; {len(sold)} pieces sold during the scan; sync: {report.text}\n")
    show(report, before, after, sold)
    wrong = faults(report, before, after, sold)
    print(f"\nchanged: {sum(before[p] != after[p] for p in before)}; wrong: {len(wrong)}")
    for text in wrong:
        print(text, file=sys.stderr)
    return 1 if wrong else 0


def stock(till: TrytonTill) -> dict[Pair, float]:
    return {(s.location_code, s.sku): s.on_hand for s in till.pull_stock()}


def sell(till: TrytonTill, before: dict[Pair, float], count: int) -> dict[Pair, int]:
    """Single pieces, one after the other, while the robot is out; when each went (UTC nanoseconds)."""
    chosen = random.Random(1).sample(sorted(p for p, units in before.items() if units >= 2), count)
    out: dict[Pair, int] = {}
    for code, sku in chosen:
        till.post_movement(code, sku, -1)
        out[code, sku] = time.time_ns()
        time.sleep(2.0)
    return out


def sync(run: Path, bundle: object, till: TrytonTill) -> SyncReport:
    """What `shelfscan sync RUN --auto-post` does."""
    stock_map = read_map(run)
    ledger = SqliteLedger(run / "ledger.sqlite")
    policy = ApprovalPolicy(auto_post=True, movement_margin_s=MARGIN_S)
    # A simulated night runs ahead of the wall's clock.
    now_ns = max(time.time_ns(), to_ns(stock_map.created_at) or 0)
    try:
        mission = read_run_info(run).mission_id
        return sync_run(stock_map, bundle, ledger, till, policy, mission_id=mission, now_ns=now_ns)  # type: ignore[arg-type]
    finally:
        ledger.close()


def faults(report: SyncReport, before: dict[Pair, float], after: dict[Pair, float], sold: dict[Pair, int]) -> list[str]:
    """Every stock record whose number is not what it must be."""
    posted = {(x.location_code, x.sku): x.counted for x in report.lines if x.outcome == "posted"}
    seen = {(x.location_code, x.sku): to_ns(x.observed_at) or 0 for x in report.lines}
    out = []
    for pair, units in before.items():
        want = posted.get(pair, units - (pair in sold))
        if after.get(pair) != want:
            out.append(
                f"{pair[0]} {pair[1]}: {units:g} before, {pair in sold:d} sold, {after.get(pair)} after; expected {want:g}"
            )
        # A piece that went before the robot looked is not in its count: such a count may post.
        if pair in posted and sold.get(pair, 0) > seen[pair]:
            out.append(f"{pair[0]} {pair[1]}: a count was posted although a piece was sold after the look")
    return out


def show(report: SyncReport, before: dict[Pair, float], after: dict[Pair, float], sold: dict[Pair, int]) -> None:
    """A few lines of each outcome as a table."""
    print("| location | product | Tryton before | sold meanwhile | counted | Tryton after | what happened |")
    print("|---|---|---|---|---|---|---|")
    shown: Counter[str] = Counter()
    for x in sorted(report.lines, key=lambda x: ((x.location_code, x.sku) not in sold, x.location_code)):
        kind = f"{x.outcome} {x.scope} {(x.location_code, x.sku) in sold}"
        if shown[kind] < 2:
            shown[kind] += 1
            print(row(x, before, after, sold))


def row(x: SyncLine, before: dict[Pair, float], after: dict[Pair, float], sold: dict[Pair, int]) -> str:
    pair = (x.location_code, x.sku)
    counted = "–" if x.counted is None else f"≥ {x.counted}" if x.scope == "site" else f"{x.counted}"
    numbers = f"{before.get(pair, 0):g} | {1 if pair in sold else ''} | {counted} | {after.get(pair, 0):g}"
    return f"| {x.location_code} | {x.sku} | {numbers} | {x.outcome}: {x.reason} |"


if __name__ == "__main__":
    sys.exit(main())
