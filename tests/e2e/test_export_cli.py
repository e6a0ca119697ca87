"""``shelfscan export epcis``: a run's counts into a folder, over and over; and wrong usage."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from shelfscan.bundle import load_bundle
from shelfscan.cli import export, wms
from shelfscan.errors import BadInput
from shelfscan.evaluation.epcis_check import problems
from shelfscan.model.stock import BinState, BinStatus, StockMap
from shelfscan.runinfo import RunInfo, write_run_info

STORE = Path(__file__).resolve().parents[2] / "maps" / "demo"

app = typer.Typer()
app.add_typer(export.app, name="export")
app.add_typer(wms.review, name="review")
app.command("sync")(wms.sync)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Last week's run: all counted, but one bin unseen, one empty, one empty perhaps, one unsure."""
    b = load_bundle(STORE)
    at = (datetime.now(timezone.utc) - timedelta(days=7)).isoformat(timespec="seconds")
    special = {
        0: {"status": BinStatus.UNSEEN, "reason": "blocked"},
        1: {"status": BinStatus.OUT_OF_STOCK, "units": 0.0},
        2: {"status": BinStatus.OUT_OF_STOCK, "units": 0.0, "confidence": 0.6},
        3: {"confidence": 0.6},
    }
    bins = []
    for n, bin_id in enumerate(b.store.places):
        facts: dict[str, Any] = {"status": BinStatus.OK, "units": 4.0, "confidence": 0.99, **special.get(n, {})}
        units = facts.pop("units")
        more = {"misplaced": False, "facings": 1, "tag_price": "", "position": (0.0, 0.0, 0.0), "observed_at": at}
        known = {"units": units, "units_low": int(units), "units_high": int(units)}
        bins.append(BinState(bin_id, b.planogram[bin_id].sku, **facts, **known, **more))
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "stock_map.json").write_text(json.dumps(StockMap(b.store.site, "m1", at, tuple(bins)).to_json()))
    write_run_info(folder, RunInfo(str(STORE), "m1", b.store.site, "direct", at))
    return folder


def call(*args: object, fails: int = 0) -> Any:
    result = CliRunner().invoke(app, [str(a) for a in args])
    assert result.exit_code == fails, (result.output, result.exception)
    return result


def counts(*args: object) -> dict[str, int]:
    return {k: v for k, v in json.loads(call("export", "epcis", *args, "--json").stdout)["counts"].items() if v}


def events(folder: Path) -> dict[str, float]:
    out: dict[str, float] = {}
    for path in folder.glob("*.json"):
        made = json.loads(path.read_text())
        assert problems(made) == []
        for e in made["epcisBody"]["eventList"]:
            assert e["eventID"] not in out
            out[e["eventID"]] = e["quantityList"][0]["quantity"]
    return out


def test_what_is_sure_is_sent_once_and_zeros_when_somebody_says_so(run: Path, tmp_path: Path) -> None:
    total, folder = len(load_bundle(STORE).store.places), tmp_path / "out"
    planned = counts(run, "--out", folder, "--dry-run")
    assert planned == {"pending": total - 4, "held": 3, "recount": 1} and not folder.exists()
    assert counts(run, "--out", folder) == {"posted": total - 4, "held": 3, "recount": 1}
    first = events(folder)
    assert len(first) == total - 4 and set(first.values()) == {4}
    assert counts(run, "--out", folder)["posted"] == total - 4 and events(folder) == first
    assert counts(run, "--out", folder, "--zeros") == {"posted": total - 3, "held": 2, "recount": 1}
    after = events(folder)
    assert first.items() <= after.items() and sorted(after.values())[:2] == [0, 4], "the unsure zero is not sent"
    assert len(events(tmp_path / "other")) == 0
    assert counts(run, "--out", tmp_path / "other")["posted"] == total - 4


def test_a_sync_with_epcis_keeps_to_the_rules_of_approval(run: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"wms:\n  name: epcis\n  epcis:\n    folder: {tmp_path / 'out'}\n")
    report = json.loads(call("sync", run, "--config", config, "--json").stdout)
    assert report["counts"]["posted"] == 0 and not (tmp_path / "out").exists()
    assert {x["on_hand"] for x in report["lines"]} == {None}
    waiting = json.loads(call("review", "list", run, "--config", config, "--json").stdout)["lines"]
    unsure = next(x for x in waiting if "60% sure" in x["reason"] and x["counted"])
    call("review", "approve", run, unsure["line_id"], "--why", "looked", "--by", "anna", "--config", config)
    assert list(events(tmp_path / "out").values()) == [4]


def test_a_repository_that_is_down_loses_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELFSCAN_EPCIS_TOKEN", "secret-thing")
    monkeypatch.setattr("time.sleep", lambda s: None)
    result = call("export", "epcis", run, "--http", "http://127.0.0.1:9/epcis", fails=1)
    assert "cannot be reached" in result.output and "nothing is lost" in result.output
    assert "secret-thing" not in result.output


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--out", "a", "--http", "http://x"), "name one destination"),
        (("--http", "ftp://x"), "--http"),
        (("--mqtt", "broker"), "expected HOST/TOPIC"),
        (("--mqtt", "broker:x/t"), "expected HOST/TOPIC"),
        (("--http", "https://x"), "SHELFSCAN_EPCIS_TOKEN is not set"),
    ],
)
def test_wrong_usage_is_named_before_anything_is_touched(run: Path, options: tuple[str, ...], named: str) -> None:
    before = sorted(run.iterdir())
    result = CliRunner().invoke(app, ["export", "epcis", str(run), *options])
    assert isinstance(result.exception, BadInput) and named in str(result.exception)
    assert sorted(run.iterdir()) == before
