"""How long a Tryton test server's stock takes to read, by how many moves it has and whether past ones are in a closed period.

    python -m benchmarks.tryton_history --address http://user:password@host:port/database --moves 20000

Makes that many moves over the last 300 days; reads stock; closes a period that ends yesterday; reads stock again. The two
readings must say the same.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import date, timedelta
from typing import Any

from shelfscan.evaluation.tryton_night import TrytonServer, TrytonTill

BATCH, LINES = 500, 50


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--address", required=True)
    parser.add_argument("--moves", type=int, default=20000)
    args = parser.parse_args()
    client = TrytonServer.of(args.address).client(())
    make(client, args.moves)
    rpc = client.rpc
    moves = len(rpc.read("stock.move", [["state", "=", "done"]], []))
    closed = rpc.read("stock.period", [["state", "=", "closed"]], [])
    if closed:
        rpc.call("model.stock.period.draft", [int(p["id"]) for p in closed], changes=True)
    open_s, before = read(client)
    values = {"date": _day(date.today() - timedelta(days=1)), "company": rpc.company()}
    period = rpc.call("model.stock.period.create", [values], changes=True)
    began = time.perf_counter()
    rpc.call("model.stock.period.close", period, changes=True)
    close_s = time.perf_counter() - began
    closed_s, after = read(client)
    said = {"moves": moves, "no_period_s": open_s, "closing_s": round(close_s, 1), "closed_period_s": closed_s}
    print(json.dumps({**said, "same": before == after, "records": len(before)}))
    return 0 if before == after else 1


def make(client: TrytonTill, count: int) -> None:
    """Done moves of counts by hand, whose dates are spread over the last 300 days."""
    rpc, (codes, products) = client.rpc, client.known()
    places, goods = sorted(codes.values()), sorted(products.values())[:LINES]
    number = 0
    while number * len(goods) < count:
        values = []
        for _ in range(max(1, BATCH // len(goods))):
            # Another number each time, or there would be nothing to move.
            lines = [{"product": g, "quantity": float(1 + (number + k) % 89)} for k, g in enumerate(goods)]
            day = _day(date.today() - timedelta(days=max(2, 302 - number * len(goods) * 300 // count)))
            place = places[number % len(places)]
            made = {"location": place, "date": day, "company": rpc.company(), "lines": [["create", lines]]}
            values.append({**made, "number": f"history {number}", "empty_quantity": "keep"})
            number += 1
        rpc.call("model.stock.inventory.confirm", rpc.call("model.stock.inventory.create", values, changes=True), changes=True)


def read(client: TrytonTill) -> tuple[float, Any]:
    """The best of three readings in seconds, and what was there."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        stock = client.pull_stock()
        times.append(time.perf_counter() - began)
    return round(min(times), 2), [(s.location_code, s.sku, s.on_hand) for s in stock if s.on_hand]


def _day(day: date) -> dict[str, Any]:
    return {"__class__": "date", "year": day.year, "month": day.month, "day": day.day}


if __name__ == "__main__":
    sys.exit(main())
