"""The score itself: a perfect map is perfect, and each kind of wrong shows where it should."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from shelfscan.errors import BadInput
from shelfscan.sim.score import score_run

TRUTH = Path(__file__).resolve().parents[2] / "maps" / "demo" / "truth"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as f:
        return list(csv.DictReader(f))


@pytest.fixture
def perfect(tmp_path: Path) -> Path:
    """A run folder that says exactly the truth."""
    bins: list[dict[str, Any]] = [
        {
            "bin_id": t["bin_id"],
            "status": t["status"],
            "misplaced": t["misplaced"] == "1",
            "facings": int(t["facings"]),
            "units": float(t["units"]),
            "units_low": int(t["units"]),
            "units_high": int(t["units"]),
            "confidence": 1.0,
            "tag_price": t["tag_price"],
            "position": [float(t[k]) for k in "xyz"],
            "findings": [],
        }
        for t in rows(TRUTH / "bins.csv")
    ]
    (tmp_path / "stock_map.json").write_text(json.dumps({"bins": bins}))
    front = [i for i in rows(TRUTH / "items.csv") if i["facing"] == "1"]
    with (tmp_path / "observations.csv").open("w", newline="") as f:
        w = csv.writer(f)
        w.writerow(["observation_id", "bin_id", "sku", "x", "y", "z", "confidence"])
        w.writerows([i["item_id"], i["bin_id"], i["sku"], i["x"], i["y"], i["z"], 1.0] for i in front)
    (tmp_path / "report.json").write_text(json.dumps({"seconds": 36.0}))
    return tmp_path


def change(run: Path, n: int, **values: Any) -> None:
    data = json.loads((run / "stock_map.json").read_text())
    data["bins"][n].update(values)
    (run / "stock_map.json").write_text(json.dumps(data))


def test_the_truth_scores_full_marks(perfect: Path) -> None:
    s = score_run(perfect, TRUTH)
    for key in ("coverage", "bin_assignment_accuracy", "sku_top1", "facings_exact", "units_within_1", "interval_coverage"):
        assert s[key] == 1.0, key
    assert (s["duplicates"], s["unknown_bins"], s["ece"], s["interval_crps"]) == (0, 0, 0.0, 0.0)
    assert (s["tag_answered"], s["tag_exact"]) == (1.0, 1.0)
    assert s["position_error_m"]["p95"] == 0.0
    assert s["facings_per_hour"] == 4800


def test_unseen_lowers_coverage_and_counts_as_wrong_only_there(perfect: Path) -> None:
    change(perfect, 0, status="UNSEEN")
    s = score_run(perfect, TRUTH)
    assert s["coverage"] == pytest.approx(21 / 22, abs=1e-4)
    assert s["facings_exact"] == 1.0
    assert s["unseen_as_wrong"]["facings_exact"] == pytest.approx(21 / 22, abs=1e-4)


def test_a_false_out_of_stock_costs_precision(perfect: Path) -> None:
    change(perfect, 3, status="OUT_OF_STOCK", facings=0, units=0.0, units_low=0, units_high=0)
    s = score_run(perfect, TRUTH)
    assert s["status"]["OUT_OF_STOCK"]["precision"] == 0.0
    assert s["facings_exact"] == pytest.approx(21 / 22, abs=1e-4)
    assert s["interval_coverage"] == pytest.approx(21 / 22, abs=1e-4)


def test_an_observation_in_the_wrong_place_or_twice_is_wrong(perfect: Path) -> None:
    path = perfect / "observations.csv"
    lines = path.read_text().splitlines()
    doubled = lines[1].split(",")
    doubled[0] = "again"
    path.write_text("\n".join([*lines, ",".join(doubled)]) + "\n")
    s = score_run(perfect, TRUTH)
    assert s["duplicates"] == 1
    assert s["bin_assignment_accuracy"] < 1.0
    moved = lines[1].split(",")
    moved[3] = str(float(moved[3]) + 0.2)
    path.write_text("\n".join([lines[0], ",".join(moved), *lines[2:]]) + "\n")
    s = score_run(perfect, TRUTH)
    assert s["observations_unmatched"] == 1


@pytest.mark.parametrize("name", ["stock_map.json", "observations.csv"])
def test_a_missing_file_is_named(perfect: Path, name: str) -> None:
    (perfect / name).unlink()
    with pytest.raises(BadInput, match=name):
        score_run(perfect, TRUTH)


def test_a_missing_column_is_named(perfect: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth"
    shutil.copytree(TRUTH, truth)
    text = (truth / "bins.csv").read_text().replace("reachable", "reach", 1)
    (truth / "bins.csv").write_text(text)
    with pytest.raises(BadInput, match=r"bins\.csv: line 1: missing column reachable"):
        score_run(perfect, truth)


@pytest.mark.parametrize("kind", ["wrong_facings", "overstocked"])
def test_each_kind_of_finding_has_its_own_precision_and_recall(perfect: Path, tmp_path: Path, kind: str) -> None:
    truth = tmp_path / "truth"
    shutil.copytree(TRUTH, truth)
    ids = [r["bin_id"] for r in rows(truth / "bins.csv")]
    with (truth / "findings.csv").open("a") as f:
        f.writelines(f"{b},{kind},shelf,1.00\n" for b in ids[:3])
    for n in (0, 1, 7):
        change(perfect, n, findings=[f"{ids[n]}/{kind}"])
    data = json.loads((perfect / "stock_map.json").read_text())
    said = {n: {"bin_id": ids[n], "type": kind, "alarm": n == 0} for n in (0, 1, 7)}
    (perfect / "stock_map.json").write_text(json.dumps({**data, "findings": list(said.values())}))
    s = score_run(perfect, truth)
    assert s["findings"][kind] == {"precision": pytest.approx(2 / 3, abs=1e-4), "recall": pytest.approx(2 / 3, abs=1e-4)}
    # What is only to be checked is no alarm, right or wrong.
    assert s["alarms"][kind] == {"precision": 1.0, "recall": pytest.approx(1 / 3, abs=1e-4)}
    assert s["false_alarms_per_1000"] == 0.0 and s["false_findings_per_1000"] > 0
    # A shelf that is blamed for wrong facings is rightly blamed.
    assert s["verdict_accuracy"] == (1.0 if kind == "wrong_facings" else None)


def test_what_is_there_and_was_never_said_is_a_recall_of_nought(perfect: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth"
    shutil.copytree(TRUTH, truth)
    with (truth / "findings.csv").open("a") as f:
        f.write(f"{rows(truth / 'bins.csv')[0]['bin_id']},missing_tag,shelf,0.00\n")
    assert score_run(perfect, truth)["findings"]["missing_tag"] == {"precision": None, "recall": 0.0}


def test_wrong_sizes_of_what_stands_nowhere_are_counted_apart(perfect: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth"
    shutil.copytree(TRUTH, truth)
    bins = rows(truth / "bins.csv")
    *there, gone = [n for n, b in enumerate(bins) if int(b["units"]) > 0 and b["reachable"] == "1"][:3]
    bins[gone]["units"] = "0"
    with (truth / "bins.csv").open("w", newline="") as f:
        out = csv.DictWriter(f, bins[0].keys())
        out.writeheader()
        out.writerows(bins)
    with (truth / "findings.csv").open("a") as f:
        f.writelines(f"{bins[n]['bin_id']},dimension_mismatch,catalogue,0.12\n" for n in (*there, gone))
    change(perfect, there[0], findings=[f"{bins[there[0]]['bin_id']}/dimension_mismatch"])
    s = score_run(perfect, truth)
    assert s["findings"]["dimension_mismatch"]["recall"] == pytest.approx(1 / 3, abs=1e-4)
    assert s["wrong_sizes_there_recall"] == 0.5
