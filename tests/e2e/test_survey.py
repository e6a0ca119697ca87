"""A store proposed from a first drive: what stands where without reading the planogram, and what staff make of it."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from shelfscan.paths import ROOT

DEMO = ROOT / "maps" / "demo"


def shelfscan(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "shelfscan.cli.main", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=280)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("survey") / "run"
    done = shelfscan("run", "--direct", "--store", DEMO, "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def proposal(run: Path) -> Path:
    out = run.parent / "proposal"
    done = shelfscan("store", "survey", run, "--store", DEMO, "--out", out)
    assert done.returncode == 0, done.stderr
    return out


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def test_the_proposal_is_what_stands_there(proposal: Path) -> None:
    true = {(r["sku"], r["facings_wide"], r["facings_high"], r["facings_deep"]) for r in rows(DEMO / "planogram.csv")}
    said = [(r["sku"], r["facings_wide"], r["facings_high"], r["facings_deep"]) for r in rows(proposal / "planogram.csv")]
    assert sum(s in true for s in said) >= 0.9 * len(true)
    assert len(said) <= 1.1 * len(true)
    heights = [
        [
            s["z_m"]
            for a in yaml.safe_load(p.read_text())["aisles"]
            for g in a["gondolas"]
            for b in g["bays"]
            for s in b["shelves"]
        ]
        for p in (DEMO / "store.yaml", proposal / "store.yaml")
    ]
    assert heights[1] == pytest.approx(heights[0], abs=0.01)
    assert shelfscan("store", "check", proposal).returncode == 0
    assert all(0 <= float(r["confidence"]) <= 1 and r["evidence"] for r in rows(proposal / "review.csv"))


def test_what_staff_correct_is_what_is_written(run: Path, proposal: Path, tmp_path: Path) -> None:
    review = rows(proposal / "review.csv")
    review[0]["facings_wide"] = "2"
    with (tmp_path / "review.csv").open("w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, list(review[0]))
        writer.writeheader()
        writer.writerows(review)
    done = shelfscan("store", "survey", run, "--store", DEMO, "--out", tmp_path / "final", "--accept", tmp_path / "review.csv")
    assert done.returncode == 0, done.stderr
    final = {r["bin_id"]: r for r in rows(tmp_path / "final" / "planogram.csv")}
    assert final[review[0]["bin_id"]]["facings_wide"] == "2"
    assert len(final) == len(review)


def test_a_correction_that_makes_no_sense_is_named_and_nothing_is_left(run: Path, proposal: Path, tmp_path: Path) -> None:
    review = rows(proposal / "review.csv")
    review[1]["sku"] = "SKU-NOWHERE"
    review[2]["facings_wide"] = "many"
    with (tmp_path / "review.csv").open("w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, list(review[0]))
        writer.writeheader()
        writer.writerows(review)
    done = shelfscan("store", "survey", run, "--store", DEMO, "--out", tmp_path / "final", "--accept", tmp_path / "review.csv")
    assert done.returncode == 2
    assert (
        "line 3" in done.stderr and "SKU-NOWHERE" in done.stderr and "line 4" in done.stderr and "facings_wide" in done.stderr
    )
    assert not (tmp_path / "final").exists()
