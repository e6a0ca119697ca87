"""A retention setting that really deletes: no byte of a picture is left, counts stay, nothing outside is touched."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shelfscan.cli.main import app
from shelfscan.cli.retention import apply_beside
from shelfscan.config import Config, PrivacyConfig
from shelfscan.errors import BadInput
from shelfscan.retention import NOTE, apply_retention, run_folders
from shelfscan.runfolder import claimed
from shelfscan.runinfo import RunInfo, write_run_info

NOW = datetime(2026, 11, 25, 22, 0, tzinfo=timezone.utc)
#: Stands in for the bytes of a picture: what must be found nowhere afterwards.
FACE = b"\xff\xd8 a face \xff\xd9"
KEPT = ("stock_map.json", "report.json", "report.html", "ledger.sqlite", "observations.csv", "config.yaml", "run.json")


def make_run(root: Path, name: str, age_days: float, site: str = "s", config: str = "") -> Path:
    run = root / name
    for part in ("bag/bag_0.mcap", "bag/bag_1.mcap", "evidence/B1/c-low.jpg", "evidence/B1/.c-high.jpg.17"):
        path = run / part
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"chunk" + FACE)
    (run / "bag" / "metadata.yaml").write_text("rosbag2_bagfile_information: {}\n")
    for part in KEPT:
        (run / part).write_text("{}")
    (run / "config.yaml").write_text(config)
    created = (NOW - timedelta(days=age_days)).isoformat(timespec="seconds").replace("+00:00", "Z")
    write_run_info(run, RunInfo("/store", name, site, "direct", created))
    return run


def faces(root: Path) -> list[str]:
    return [str(p) for p in root.rglob("*") if p.is_file() and not p.is_symlink() and FACE in p.read_bytes()]


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_what_is_too_old_is_gone_to_the_last_byte_and_counts_stay(tmp_path: Path) -> None:
    old, new = make_run(tmp_path, "old", 31), make_run(tmp_path, "new", 29)
    before = {n: (old / n).read_bytes() for n in KEPT}
    assert len(faces(old)) == 4
    result = apply_retention([(old, 30), (new, 30)], NOW)
    assert faces(old) == [] and len(faces(new)) == 4
    assert {n: (old / n).read_bytes() for n in KEPT} == before
    assert {p.name for p in old.iterdir()} == {*KEPT, NOTE, ".lock"}
    assert [r.run_dir for r in result.deleted] == [str(old)]
    assert result.deleted[0].files == 5 and result.deleted[0].size_bytes > 4 * len(FACE)
    assert json.loads((old / NOTE).read_text())["deleted"][0]["retention_days"] == 30


def test_again_changes_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path, "old", 31)
    apply_retention([(run, 30)], NOW)
    before = contents(run)
    again = apply_retention([(run, 30)], NOW + timedelta(days=1))
    assert again.deleted == () and again.problems == () and contents(run) == before


def test_what_a_kill_left_half_done_is_finished(tmp_path: Path) -> None:
    run = make_run(tmp_path, "old", 31)
    (run / "bag").rename(run / ".deleted-bag-1-2")
    apply_retention([(run, 30)], NOW)
    assert faces(run) == []


def test_a_dry_run_deletes_nothing_and_says_the_same(tmp_path: Path) -> None:
    run = make_run(tmp_path, "old", 31)
    before = contents(run)
    said = apply_retention([(run, 30)], NOW, dry_run=True)
    assert contents(run) == before
    assert said == apply_retention([(run, 30)], NOW)


def test_links_lead_nowhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "x.jpg").write_bytes(FACE)
    linked = make_run(tmp_path / "runs", "linked", 31)
    (linked / "evidence").rename(linked / "was")
    (linked / "evidence").symlink_to(outside)
    inside = make_run(tmp_path / "runs", "inside", 31)
    (inside / "evidence" / "deep").symlink_to(outside / "deep")
    (tmp_path / "runs" / "away").symlink_to(outside)
    folders = run_folders(tmp_path / "runs")
    assert folders == [inside, linked]
    result = apply_retention([(f, 30) for f in folders], NOW)
    assert (outside / "deep" / "x.jpg").read_bytes() == FACE
    assert len(result.problems) == 1 and "linked/evidence: a link" in result.problems[0]
    assert (linked / "bag").is_dir() and not (inside / "evidence").exists()


def test_a_run_that_goes_on_is_left_alone(tmp_path: Path) -> None:
    run, other = make_run(tmp_path, "a", 31), make_run(tmp_path, "b", 31)
    with claimed(run):
        result = apply_retention([(run, 30), (other, 30)], NOW)
    assert len(faces(run)) == 4 and faces(other) == []
    assert "another run is going on" in result.problems[0]


@pytest.mark.parametrize("days", [-1, float("nan")])
def test_days_that_make_no_sense_delete_nothing(tmp_path: Path, days: float) -> None:
    run = make_run(tmp_path, "a", 31)
    with pytest.raises(BadInput, match="retention days"):
        apply_retention([(run, 30), (run, days)], NOW)
    assert len(faces(run)) == 4


def test_a_folder_that_is_no_run_is_refused_before_anything_goes(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a", 31)
    (tmp_path / "photos" / "evidence").mkdir(parents=True)
    with pytest.raises(BadInput, match="not a run folder"):
        apply_retention([(run, 30), (tmp_path / "photos", 30)], NOW)
    assert len(faces(run)) == 4


def test_a_new_run_applies_its_setting_to_its_own_stores_runs(tmp_path: Path) -> None:
    mine, other = make_run(tmp_path, "a", 1000), make_run(tmp_path, "b", 1000, site="another")
    fresh = tmp_path / "c"
    fresh.mkdir()
    assert apply_beside(fresh, Config(), "s").runs == ()
    assert len(faces(mine)) == 4
    apply_beside(fresh, Config(privacy=PrivacyConfig(retention_days=30)), "s")
    assert faces(mine) == [] and len(faces(other)) == 4


def test_the_command_takes_each_runs_own_setting(tmp_path: Path) -> None:
    kept = make_run(tmp_path, "kept", 1000)
    gone = make_run(tmp_path, "gone", 1000, config="privacy: {retention_days: 7}\n")
    shown = CliRunner().invoke(app, ["retention", "apply", "--runs", str(tmp_path), "--json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["deleted_runs"] == 1
    assert faces(gone) == [] and len(faces(kept)) == 4
    assert CliRunner().invoke(app, ["retention", "apply", "--runs", str(kept), "--days", "7"]).exit_code == 0
    assert faces(kept) == []


def test_the_command_without_a_setting_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a", 1000)
    result = CliRunner().invoke(app, ["retention", "apply", "--runs", str(tmp_path)])
    assert isinstance(result.exception, BadInput) and "retention_days" in str(result.exception)
    assert len(faces(run)) == 4
