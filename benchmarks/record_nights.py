"""What test nights saw, kept for replays: the events of finished runs, compressed.

    python -m benchmarks.record_nights --nights OUT --seeds 31 32 --out tests/replay/nights

``OUT`` holds ``run-SEED`` as ``benchmarks.stores`` leaves it. `tests/replay/test_messy_nights.py` maps them anew, so that a
change of how observations are understood is scored in seconds; what captures show is scored by driving (``make test-long``).
"""

from __future__ import annotations

import argparse
import json
import lzma
from pathlib import Path

from shelfscan.adapters.ledger_sqlite import SqliteLedger


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--nights", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        ledger = SqliteLedger(args.nights / f"run-{seed}" / "ledger.sqlite")
        lines = [
            json.dumps([s.event.kind, s.event.key, s.event.stamp_ns, s.event.payload], separators=(",", ":"))
            for s in ledger.read()
        ]
        ledger.close()
        out = args.out / f"{seed}.jsonl.xz"
        out.write_bytes(lzma.compress("\n".join(lines).encode(), preset=9))
        print(f"{out}: {len(lines)} events, {out.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
