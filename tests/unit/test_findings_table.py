"""The table of findings by type: what counts as right, and what is not counted at all."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.findings import Tally, table


def test_findings_of_bins_that_were_seen_are_compared_with_the_truth(tmp_path: Path) -> None:
    store, run = tmp_path / "store", tmp_path / "run"
    (store / "truth").mkdir(parents=True)
    run.mkdir()
    (store / "truth" / "bins.csv").write_text("bin_id,reachable\nA,1\nB,1\nC,0\nD,1\n")
    (store / "truth" / "findings.csv").write_text("bin_id,type\nA,low\nB,low\nB,glare\nC,low\nD,low\n")
    bins = [{"bin_id": b, "status": s} for b, s in (("A", "LOW"), ("B", "OK"), ("C", "LOW"), ("D", "UNSEEN"))]
    told = [("A", "low", True), ("B", "turned", False), ("A", "turned", True), ("C", "low", True), ("D", "low", True)]
    findings = [{"bin_id": b, "type": t, "alarm": a} for b, t, a in told]
    (run / "stock_map.json").write_text(json.dumps({"bins": bins, "findings": findings}))
    tally = Tally()
    tally.add(store, run)
    rows = table(tally)
    assert "| `low` | 1 | 1.000 | 1 | 1.000 | 0.207 to 1.000 | 2 | 0.50 |" in rows
    assert "| `turned` | 2 | 0.000 | 1 | 0.000 | 0.000 to 0.793 | 0 | – |" in rows
    assert rows[-1].strip() == "2 bins, 2 alarms, 1 of them not so." and len(rows) == 5
