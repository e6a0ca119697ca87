"""How long after the last look at a bay its findings are out: ``python -m benchmarks.finding_latency RUN``.

From a run over ROS with its recording: when each finding was published (as the recorder heard it) against when the last
capture was taken, up to then, that sees the finding's bay. Wall time, all on one computer; a finding that came before the bay
was looked at for the last time counts from the look before.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory

from shelfscan.adapters.ledger_sqlite import SqliteLedger


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    args = parser.parse_args()
    ledger = SqliteLedger(args.run / "ledger.sqlite")
    bins_of: dict[str, set[str]] = {}
    looks: list[tuple[int, str]] = []
    for stored in ledger.read(kinds=("mission.started", "viewpoint.captured")):
        p = stored.event.payload
        if stored.event.kind == "mission.started":
            bins_of = {v["viewpoint_id"]: set(v["bin_ids"]) for v in p["plan"]["viewpoints"]}
        else:
            looks.append((stored.event.stamp_ns, p["viewpoint_id"]))
    ledger.close()
    waits: list[float] = []
    told: set[str] = set()
    for path in sorted((args.run / "bag").glob("*.mcap")):
        with path.open("rb") as f:
            reader = make_reader(f, decoder_factories=[DecoderFactory()])
            # Findings go out together with the first map that has them, and maps are recorded.
            for _, _, message, stock_map in reader.iter_decoded_messages(topics=["/shelfscan/stock_map"]):
                for state in stock_map.bins:
                    for finding_id in set(state.findings) - told:
                        told.add(finding_id)
                        before = [at for at, v in looks if at <= message.log_time and state.bin_id in bins_of[v]]
                        if before:
                            waits.append((message.log_time - max(before)) / 1e9)
    waits.sort()
    if not waits:
        raise SystemExit("no finding in the recording")
    print(
        json.dumps(
            {
                "findings": len(waits),
                "median_s": round(statistics.median(waits), 2),
                "p95_s": round(waits[int(0.95 * (len(waits) - 1))], 2),
                "most_s": round(waits[-1], 2),
                "within_3_s": round(sum(w <= 3.0 for w in waits) / len(waits), 3),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
