"""How long after the last look at a bay its findings are out: ``python -m benchmarks.finding_latency RUN``.

From a run over ROS with its recording: when the first map that has a finding was published (as the recorder heard it; findings
themselves go out just before their map, so they are a little sooner) against when the last
capture was taken, up to then, that sees the finding's bay and whose scan was done. Wall time, all on one computer; a finding
that came before the bay was looked at for the last time counts from the look before.

What the time went into: *scan*, from the capture to its scan; *map*, from that scan to the first map after it; *others*, from
there to the map that has the finding. Only a finding that other captures had to speak for (a verdict on a bay, a size that more
bins contradict, a capture that was registered on its neighbours) has any of the last.
"""

from __future__ import annotations

import argparse
import json
import statistics
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory

from shelfscan.adapters.ledger_sqlite import SqliteLedger

WANTED_S = 3.0
NS = 1e9


@dataclass(frozen=True)
class Wait:
    """One finding's way, seconds."""

    kind: str
    scan_s: float
    map_s: float
    others_s: float

    @property
    def all_s(self) -> float:
        """From the look to the finding."""
        return self.scan_s + self.map_s + self.others_s


def waits_of(
    maps: Sequence[tuple[int, Sequence[tuple[str, str]]]],
    captured: Mapping[str, tuple[int, frozenset[str]]],
    scanned: Mapping[str, int],
) -> list[Wait]:
    """The way of every finding, at the map that first has it.

    ``maps``: (time, (finding, bin) of each) in order of time; ``captured``: time and bins by capture; ``scanned``: time of the
    scan by capture. Times in nanoseconds.
    """
    times = [at for at, _ in maps]
    told: set[str] = set()
    out: list[Wait] = []
    for at, findings in maps:
        for finding_id, bin_id in findings:
            if finding_id in told:
                continue
            told.add(finding_id)
            looks = [(t, scanned[c]) for c, (t, bins) in captured.items() if bin_id in bins and scanned.get(c, at + 1) <= at]
            if looks:
                look, scan = max(looks)
                first = times[bisect_left(times, scan)]
                kind = finding_id.rpartition("/")[2]
                out.append(Wait(kind, (scan - look) / NS, (first - scan) / NS, (at - first) / NS))
    return out


def summary(waits: Sequence[Wait]) -> dict[str, Any]:
    """The distribution over findings, and what the time went into."""

    def of(values: Sequence[float]) -> dict[str, float]:
        ordered = sorted(values)
        p95 = ordered[int(0.95 * (len(ordered) - 1))]
        return {"median_s": round(statistics.median(ordered), 2), "p95_s": round(p95, 2), "most_s": round(ordered[-1], 2)}

    kinds = sorted({w.kind for w in waits})
    return {
        "findings": len(waits),
        **of([w.all_s for w in waits]),
        "within_3_s": round(sum(w.all_s <= WANTED_S for w in waits) / len(waits), 3),
        "scan": of([w.scan_s for w in waits]),
        "map": of([w.map_s for w in waits]),
        "waited_for_others": sum(w.others_s > 0 for w in waits),
        "types": {
            k: {
                "findings": len(here := [w for w in waits if w.kind == k]),
                "median_s": of([w.all_s for w in here])["median_s"],
                "late": sum(w.all_s > WANTED_S for w in here),
                "waited_for_others": sum(w.others_s > 0 for w in here),
            }
            for k in kinds
        },
    }


def of_captures(
    maps: Sequence[int], captured: Mapping[str, tuple[int, frozenset[str]]], scanned: Mapping[str, int]
) -> list[tuple[str, float]]:
    """Captures in order of time, each with the seconds until the first map that has its scan; without those that have none."""
    out = []
    for capture, (taken, _) in sorted(captured.items(), key=lambda c: c[1][0]):
        later = bisect_left(maps, scanned[capture]) if capture in scanned else len(maps)
        if later < len(maps):
            out.append((capture, (maps[later] - taken) / NS))
    return out


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--captures", action="store_true", help="every capture's own wait instead of the findings'")
    args = parser.parse_args()
    ledger = SqliteLedger(args.run / "ledger.sqlite")
    bins_of: dict[str, frozenset[str]] = {}
    captured: dict[str, tuple[int, frozenset[str]]] = {}
    for stored in ledger.read(kinds=("mission.started", "mission.extended", "viewpoint.captured")):
        p = stored.event.payload
        if stored.event.kind != "viewpoint.captured":
            viewpoints = p["plan"]["viewpoints"] if stored.event.kind == "mission.started" else p["viewpoints"]
            bins_of |= {v["viewpoint_id"]: frozenset(v["bin_ids"]) for v in viewpoints}
        else:
            captured[p["capture_id"]] = (stored.event.stamp_ns, bins_of[p["viewpoint_id"]])
    ledger.close()
    maps: list[tuple[int, list[tuple[str, str]]]] = []
    scanned: dict[str, int] = {}
    for path in sorted((args.run / "bag").glob("*.mcap")):
        with path.open("rb") as f:
            reader = make_reader(f, decoder_factories=[DecoderFactory()])
            # Findings go out just before the first map that has them, and maps are recorded.
            for _, channel, message, told in reader.iter_decoded_messages(["/shelfscan/bay_scan", "/shelfscan/stock_map"]):
                if channel.topic.endswith("bay_scan"):
                    scanned.setdefault(told.capture_id, message.log_time)
                else:
                    maps.append((message.log_time, [(x, b.bin_id) for b in told.bins for x in b.findings]))
    maps.sort(key=lambda m: m[0])
    if args.captures:
        for capture, seconds in of_captures([at for at, _ in maps], captured, scanned):
            print(f"{capture.rpartition('-')[0]} {seconds:.1f} s")
        return
    waits = waits_of(maps, captured, scanned)
    if not waits:
        raise SystemExit("no finding in the recording")
    print(json.dumps(summary(waits), indent=2))


if __name__ == "__main__":
    main()
