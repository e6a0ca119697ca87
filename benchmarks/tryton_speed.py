"""How fast counts get into a Tryton test server, beside what the server does at best with the same inventories.

    python -m benchmarks.tryton_speed --address http://user:password@host:port/database --lines 5000

Both post the same number of lines, to other products each: first ours, documents of 100 lines with all look-ups and checks;
then bare calls that create and confirm as many one-line inventories, 100 at a time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import uuid

from shelfscan.evaluation.tryton_night import TrytonServer
from shelfscan.model.bundle import WmsLocation
from shelfscan.wms.document import CountDocument, CountLine

BATCH = 100


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--address", required=True)
    parser.add_argument("--lines", type=int, default=5000)
    args = parser.parse_args()
    server = TrytonServer.of(args.address)
    codes, products = server.client(()).known()
    places = [c for c in sorted(codes) if "-" in c]
    used = {(s.location_code, s.sku) for s in server.client(()).pull_stock()}
    free = [(c, s) for s in sorted(products) for c in places if (c, s) not in used][: 2 * args.lines]
    if len(free) < 2 * args.lines:
        print(
            f"{args.address}: only {len(free)} unused pairs of location and product; expected {2 * args.lines}", file=sys.stderr
        )
        return 1
    ours, bare = free[: args.lines], free[args.lines :]
    client = server.client(tuple(WmsLocation(c, "shelf", "", s, 0, 0) for c, s in ours))
    now = time.time_ns()
    began = time.perf_counter()
    applied = 0
    for start in range(0, len(ours), BATCH):
        lines = tuple(
            CountLine(n, c, s, "", 3, now, now, 0.0, "0", 1.0) for n, (c, s) in enumerate(ours[start : start + BATCH], start=1)
        )
        receipt = client.submit(CountDocument(str(uuid.uuid4()), "speed", "m", now, lines))
        applied += sum(x.result == "applied" for x in receipt.lines)
    ours_s = time.perf_counter() - began
    began = time.perf_counter()
    for start in range(0, len(bare), BATCH):
        wanted = dict.fromkeys(bare[start : start + BATCH], 3.0)
        client.set_stock(wanted, f"bare {start} {now}", codes, products)
    bare_s = time.perf_counter() - began
    print(
        json.dumps(
            {
                "lines": len(ours),
                "applied": applied,
                "seconds": round(ours_s, 1),
                "lines_per_s": round(len(ours) / ours_s, 1),
                "bare_seconds": round(bare_s, 1),
                "ratio": round(ours_s / bare_s, 2),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
