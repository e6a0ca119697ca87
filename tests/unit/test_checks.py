"""What keeps a robot on its dock, and what is only said."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from shelfscan.bundle import load_bundle
from shelfscan.cli.checks import Check, startup_checks, stop_if_fatal
from shelfscan.config import load_config
from shelfscan.errors import BadInput
from shelfscan.mission.sight import misplaced_faces
from shelfscan.model.bundle import Bundle
from shelfscan.runinfo import RunInfo, write_run_info

NOW = datetime(2026, 11, 20, 21, 0, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def demo() -> Bundle:
    return load_bundle(Path(__file__).resolve().parents[2] / "maps" / "demo")


def checks(demo: Bundle, run_dir: Path, now: datetime = NOW, robot: str = "simulator") -> dict[str, Check]:
    config = load_config(None, {"ros.robot": robot})
    return {c.name: c for c in startup_checks(demo, config, run_dir, now)}


def test_a_fresh_simulated_store_is_fine(demo: Bundle, tmp_path: Path) -> None:
    found = checks(demo, tmp_path / "run")
    assert all(c.ok for n, c in found.items() if n != "disk"), found
    stop_if_fatal([c for n, c in found.items() if n != "disk"])


def test_a_disk_that_is_full_keeps_it_on_the_dock(demo: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    for free_mb, ok, fatal in ((50, False, True), (1000, False, False), (90_000, True, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda p, free=free_mb: usage(0, 0, free * 1_000_000))
        disk = checks(demo, tmp_path / "run")["disk"]
        assert (disk.ok, disk.fatal) == (ok, fatal)


def test_clocks(demo: Bundle, tmp_path: Path) -> None:
    write_run_info_at(tmp_path / "old", demo, "2026-11-20T03:00:00Z")
    assert checks(demo, tmp_path / "run")["clock"].ok
    back = checks(demo, tmp_path / "run", NOW - timedelta(days=2))["clock"]
    assert not back.ok and not back.fatal and "set back?" in back.text
    lost = checks(demo, tmp_path / "run", datetime(1970, 1, 1, tzinfo=timezone.utc))["clock"]
    assert lost.fatal and not lost.ok


def write_run_info_at(folder: Path, demo: Bundle, created: str) -> None:
    folder.mkdir()
    write_run_info(folder, RunInfo(str(demo.root), folder.name, demo.store.site, "ros", created))


def test_calibrations_get_old(demo: Bundle, tmp_path: Path) -> None:
    def of(day: date | None, robot: str = "real") -> Check:
        return checks(replace(demo, robot=replace(demo.robot, calibrated_on=day)), tmp_path / "run", robot=robot)["calibration"]

    assert of(date(2026, 11, 1)).ok
    assert not of(date(2026, 1, 1)).ok and "323 days" in of(date(2026, 1, 1)).text
    assert not of(date(2027, 1, 1)).ok and not of(None).ok
    assert of(None, "simulator").ok


def test_a_lens_that_was_dirty_the_last_time(demo: Bundle, tmp_path: Path) -> None:
    write_run_info_at(tmp_path / "a", demo, "2026-11-18T03:00:00Z")
    write_run_info_at(tmp_path / "b", demo, "2026-11-19T03:00:00Z")
    sick = {"kind": "lens_smear", "where": "high", "text": "clean the lens", "size": 2.0}
    (tmp_path / "a" / "health.json").write_text(json.dumps({"sick": [sick], "measures": {}}))
    assert not checks(demo, tmp_path / "run")["lens"].ok
    (tmp_path / "b" / "health.json").write_text(json.dumps({"sick": [{**sick, "kind": "lamp_out"}], "measures": {}}))
    assert checks(demo, tmp_path / "run")["lens"].ok, "cleaned since; a lamp is no lens"


def test_a_map_of_another_store(demo: Bundle, tmp_path: Path) -> None:
    assert misplaced_faces(demo.store, demo.grid) == []
    other = replace(demo, grid=replace(demo.grid, cells=np.zeros_like(demo.grid.cells)))
    wrong = checks(other, tmp_path / "run")["map"]
    assert wrong.fatal and not wrong.ok
    with pytest.raises(BadInput, match="map: .* do not fit the map"):
        stop_if_fatal([wrong])
    moved = replace(demo.grid, origin_m=(demo.grid.origin_m[0] + 3.0, demo.grid.origin_m[1] + 1.0))
    assert misplaced_faces(demo.store, moved)
