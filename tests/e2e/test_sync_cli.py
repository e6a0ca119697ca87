"""``shelfscan sync`` and ``review`` as a stock manager uses them, in real processes."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from shelfscan.bundle import load_bundle
from shelfscan.cli import wms as cli
from shelfscan.errors import BadInput
from shelfscan.model.stock import BinState, BinStatus, StockMap
from shelfscan.runinfo import RunInfo, write_run_info

STORE = Path(__file__).resolve().parents[2] / "maps" / "demo"

app = typer.Typer()
app.command("sync")(cli.sync)
app.add_typer(cli.review, name="review")
#: The commands in a process of their own.
PROGRAM = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from test_sync_cli import app; app()"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder whose counts differ from the WMS in three shelf places; all else agrees."""
    b = load_bundle(STORE)
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    shelf = [w for w in b.wms if w.scope == "shelf"]
    change = {shelf[0].bin_id: -1, shelf[1].bin_id: -100, shelf[2].bin_id: +1}
    bins = []
    for w in b.wms:
        units = max(0, int(w.on_hand - (w.backroom if w.scope == "site" else 0)) + change.get(w.bin_id, 0))
        status = BinStatus.OK if units else BinStatus.OUT_OF_STOCK
        bins.append(BinState(w.bin_id, w.sku, status, False, 1, float(units), units, units, 0.99, "", (0.0, 0.0, 0.0), now))
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "stock_map.json").write_text(json.dumps(StockMap(b.store.site, "m1", now, tuple(bins)).to_json()))
    write_run_info(folder, RunInfo(str(STORE), "m1", b.store.site, "direct", now))
    return folder


def call(*args: object, fails: int = 0) -> Any:
    result = CliRunner().invoke(app, [str(a) for a in args])
    assert result.exit_code == fails, (result.output, result.exception)
    return result


def counts(*args: object) -> dict[str, int]:
    return {k: v for k, v in json.loads(call(*args, "--json").stdout)["counts"].items() if v}


def on_hand(run: Path) -> dict[str, float]:
    db = sqlite3.connect(run / "wms.sqlite")
    rows = dict(db.execute("SELECT location_code, on_hand FROM stock").fetchall())
    db.close()
    return rows


def test_nothing_posts_until_somebody_says_so(run: Path) -> None:
    total = len(load_bundle(STORE).wms)
    first = counts("sync", run, "--wms", "builtin", "--dry-run")
    assert first["held"] == 3 and sum(first.values()) == total
    assert counts("sync", run) == first
    listed = json.loads(call("review", "list", run, "--json").stdout)["lines"]
    assert len(listed) == 3 and any("zero" in x["reason"] for x in listed)
    code, before = listed[0]["location_code"], on_hand(run)
    call("review", "approve", run, code, "--why", "counted by hand", "--by", "anna")
    assert on_hand(run) == {**before, code: listed[0]["counted"]}
    call("review", "reject", run, listed[2]["line_id"], "--why", "no", "--by", "ben")
    after = counts("sync", run)
    assert (after["posted"], after["held"], after["ignored"]) == (1, 1, first.get("ignored", 0) + 1)
    assert on_hand(run) == {**before, code: listed[0]["counted"]}
    db = sqlite3.connect(run / "ledger.sqlite")
    kept = [
        json.loads(p)["decision"] for (p,) in db.execute("SELECT payload FROM events WHERE kind = 'sync.decision' ORDER BY seq")
    ]
    db.close()
    assert [(d["who"], d["why"], d["approved"]) for d in kept] == [("anna", "counted by hand", True), ("ben", "no", False)]
    assert all(d["at_ns"] > 0 for d in kept)


def test_auto_post_posts_what_is_within_the_limits(run: Path) -> None:
    done = counts("sync", run, "--auto-post")
    assert done["posted"] == 2 and done["held"] == 1
    assert counts("sync", run, "--auto-post") == done


def test_the_table_names_products_and_reasons(run: Path) -> None:
    text = subprocess.run(
        [sys.executable, "-c", PROGRAM, "sync", str(run), "--dry-run"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "200"},
    ).stdout
    name = load_bundle(STORE).catalogue[load_bundle(STORE).wms[0].sku].name
    assert name in text and "auto_post is off" in text and "dry run, nothing was written" in text


def test_a_system_that_is_down_loses_nothing(run: Path) -> None:
    counts("sync", run)
    listed = json.loads(call("review", "list", run, "--json").stdout)["lines"]
    database, aside = run / "wms.sqlite", run / "aside"
    database.rename(aside)
    database.write_bytes(b"not a database, for now" * 50)
    result = call("sync", run, fails=1)
    assert "builtin" in result.output and "nothing is lost" in result.output
    call("review", "approve", run, listed[0]["location_code"], "--why", "seen", "--by", "anna", fails=1)
    assert len(json.loads(call("review", "list", run, "--json").stdout)["lines"]) == 3
    aside.replace(database)
    assert counts("sync", run)["posted"] == 1


def test_killed_at_any_instant(run: Path) -> None:
    """kill -9 of real processes until one gets through; each line is posted once."""
    command = [sys.executable, "-c", PROGRAM, "sync", str(run), "--auto-post", "--json"]
    started = time.monotonic()
    subprocess.run([*command, "--dry-run"], capture_output=True, check=True)
    whole_s = time.monotonic() - started
    for n in range(4):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(whole_s * (0.7 + 0.1 * n))
        process.kill()
        process.wait()
    assert counts("sync", run, "--auto-post")["posted"] == 2
    db = sqlite3.connect(run / "wms.sqlite")
    moves = db.execute("SELECT location_code, COUNT(*) FROM movements WHERE kind = 'count' GROUP BY 1").fetchall()
    db.close()
    assert len(moves) == 2 and all(n == 1 for _, n in moves)


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (("sync", "{run}", "--wms", "sap9"), "unknown warehouse system"),
        (("sync", "{run}/absent"), "not a run folder"),
        (("review", "list", "{run}"), "run 'shelfscan sync' first"),
        (("review", "approve", "{run}", "L1", "--all", "--why", "x"), "not both"),
        (("review", "approve", "{run}", "--all", "--why", " "), "--why"),
    ],
)
def test_bad_input(run: Path, args: tuple[str, ...], word: str) -> None:
    result = CliRunner().invoke(app, [a.format(run=run) for a in args])
    assert isinstance(result.exception, BadInput) and word in str(result.exception)
    assert not (run / "wms.sqlite").exists()


def test_bad_maps(run: Path) -> None:
    path = run / "stock_map.json"
    good = json.loads(path.read_text())
    for text, word in (
        ("{", "cannot be read"),
        ("{}", "not a stock map"),
        (json.dumps({**good, "bins": good["bins"] + good["bins"][:1]}), "stands there twice"),
        (json.dumps({**good, "site": "elsewhere"}), "the run is of 'elsewhere'"),
    ):
        path.write_text(text)
        result = CliRunner().invoke(app, ["sync", str(run)])
        assert isinstance(result.exception, BadInput) and word in str(result.exception)
    call("sync", run, fails=1)


def test_unknown_lines_are_all_named(run: Path) -> None:
    call("sync", run)
    result = CliRunner().invoke(app, ["review", "approve", str(run), "X1", "X2", "--why", "x"])
    assert isinstance(result.exception, BadInput) and len(result.exception.problems) == 2
