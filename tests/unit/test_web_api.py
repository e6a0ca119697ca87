"""The dashboard's API over run folders in every state a run can be in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes.webrun import WebRun
from fastapi.testclient import TestClient

from shelfscan.bootstrap import make_projector
from shelfscan.web import live
from shelfscan.web.app import create_app
from shelfscan.web.runs import Runs, runs_of

Client = Callable[[Runs], TestClient]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    # Every request looks at the disk, so that a test need not wait.
    monkeypatch.setattr(live, "POLL_S", 0.0)
    monkeypatch.setattr(live, "PROJECT_SHARE", 1.0)
    opened: list[Runs] = []

    def make(runs: Runs) -> TestClient:
        opened.append(runs)
        return TestClient(create_app(runs), base_url="http://127.0.0.1")

    yield make
    for runs in opened:
        runs.close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[WebRun]:
    made = WebRun(tmp_path)
    yield made
    made.ledger.close()


def finish(run: WebRun) -> None:
    """The files a run writes at its end that the dashboard reads."""
    projector = make_projector(run.bundle, run.mission_id)
    for stored in run.ledger.read():
        projector.add_event(stored.event)
    (run.dir / "stock_map.json").write_text(json.dumps(projector.stock_map(1_790_000_100_000_000_000).to_json()))


def test_no_run_yet_then_the_first_one_is_shown(tmp_path: Path, client: Client) -> None:
    c = client(runs_of(None, tmp_path / "runs"))
    assert c.get("/api/mission").json()["state"] == "no_run"
    assert c.get("/api/stock_map").status_code == 404
    assert c.get("/api/runs").json() == []
    WebRun(tmp_path / "runs", "first").ledger.close()
    assert c.get("/api/mission").json()["state"] == "waiting"
    assert [r["run"] for r in c.get("/api/runs").json()] == ["first"]


def test_a_run_is_followed_while_it_goes_on(run: WebRun, client: Client) -> None:
    c = client(runs_of(run.dir))
    before = c.get("/api/mission").json()
    assert before["state"] == "waiting" and before["viewpoints"] == []
    run.begin()
    m = c.get("/api/mission").json()
    assert (m["state"], m["phase"], m["viewpoints_done"]) == ("running", "driving", 0)
    s = c.get("/api/stock_map").json()
    assert s["live"] and s["summary"]["counted"] == 0 and s["summary"]["pending"] == len(run.bins)
    v = run.visit(0)
    m = c.get("/api/mission").json()
    assert m["robot_at"] == v.viewpoint_id and m["viewpoints"][0]["state"] == "done"
    assert m["robot"] == pytest.approx({"x_m": v.pose.x_m, "y_m": v.pose.y_m, "yaw_rad": v.pose.yaw_rad})
    counted = c.get("/api/stock_map").json()["summary"]["counted"]
    assert 0 < counted < len(run.bins)
    for index in range(1, len(run.plan.viewpoints)):
        run.visit(index)
    run.end()
    s = c.get("/api/stock_map").json()["summary"]
    assert c.get("/api/mission").json()["state"] == "done"
    assert s["pending"] == 0 and s["counted"] == len(run.bins) - 1 and s["unseen_reasons"] == {"occluded": 1}
    assert s["out_of_stock"] == 1


def test_unseen_is_never_shown_as_empty(run: WebRun, client: Client) -> None:
    run.begin()
    for index in range(len(run.plan.viewpoints)):
        run.visit(index)
    c = client(runs_of(run.dir))
    assert c.get(f"/api/bins/{run.hidden}").json()["bin"]["status"] == "UNSEEN"
    assert c.get(f"/api/bins/{run.empty}").json()["bin"]["status"] == "OUT_OF_STOCK"


def test_a_finished_run_is_read_from_its_own_map(run: WebRun, client: Client) -> None:
    run.begin()
    for index in range(len(run.plan.viewpoints)):
        run.visit(index)
    run.end()
    finish(run)
    data = json.loads((run.dir / "stock_map.json").read_text())
    data["bins"][0]["tag_price"] = "12.34"
    (run.dir / "stock_map.json").write_text(json.dumps(data))
    c = client(runs_of(run.dir))
    answer = c.get("/api/stock_map").json()
    assert not answer["live"] and answer["bins"][0]["tag_price"] == "12.34"


def test_a_resumed_run_is_live_again(run: WebRun, client: Client) -> None:
    run.begin()
    run.visit(0)
    run.end("cancelled")
    finish(run)
    c = client(runs_of(run.dir))
    assert not c.get("/api/stock_map").json()["live"]
    assert c.get("/api/mission").json()["state"] == "cancelled"
    run.append("mission.resumed")
    run.visit(1)
    m, s = c.get("/api/mission").json(), c.get("/api/stock_map").json()
    assert m["state"] == "running" and m["interruptions"] == 1
    assert s["live"] and s["summary"]["counted"] > 11


def test_all_that_is_known_of_a_bin(run: WebRun, client: Client) -> None:
    run.begin()
    v = run.visit(0)
    c = client(runs_of(run.dir))
    d = c.get(f"/api/bins/{run.bins[0]}").json()
    line = run.bundle.planogram[run.bins[0]]
    assert d["plan"]["capacity_units"] == line.capacity_units
    assert d["product"]["name"] == run.bundle.catalogue[line.sku].name
    assert d["wms"]["on_hand"] == next(w.on_hand for w in run.bundle.wms if w.bin_id == run.bins[0])
    assert d["looks"] == [
        {
            "capture_id": f"{v.viewpoint_id}-1",
            "viewpoint_id": v.viewpoint_id,
            "at": d["looks"][0]["at"],
            "seen": 1.0,
            "blocked": 0.0,
            "evidence": f"{run.bins[0]}/{v.viewpoint_id}-1-low.jpg",
        }
    ]
    for url in (*d["evidence_urls"], *d["product"]["pictures"]):
        picture = c.get(url)
        assert picture.status_code == 200 and picture.headers["content-type"] == "image/jpeg", url
    assert c.get("/api/bins/nowhere").status_code == 404


def test_findings_come_most_valuable_first(run: WebRun, client: Client) -> None:
    run.begin()
    for index in range(len(run.plan.viewpoints)):
        run.visit(index)
    found = client(runs_of(run.dir)).get("/api/findings").json()
    assert any(f["type"] == "out_of_stock" and f["bin_id"] == run.empty and f["units"] == 0 for f in found)
    weights = [f["value"] * f["confidence"] for f in found]
    assert weights == sorted(weights, reverse=True)


def test_the_newest_sync_is_shown(run: WebRun, client: Client) -> None:
    run.begin()
    run.visit(0)
    run.end()
    c = client(runs_of(run.dir))
    assert c.get("/api/sync").json()["state"] == "none"
    line = {"location_code": run.empty, "bin_id": run.empty, "sku": "SKU-000023", "counted": 0, "on_hand": 11.0}
    lines = [{**line, "outcome": "held", "reason": "zero"}]
    report = {"wms": "builtin", "state": "done", "text": "1 held", "counts": {"held": 1}, "lines": lines}
    signal = {
        "kind": "phantom_inventory",
        "location_code": run.empty,
        "bins": [run.empty],
        "units": 11,
        "value": 27.5,
        "text": "?",
    }
    task = {"ref": "T1", "location_code": run.empty, "bins": [run.empty], "state": "open", "text": "held"}
    run.append("sync.report", wms="builtin", report={**report, "signals": [signal], "tasks": [task]})
    s = c.get("/api/sync").json()
    assert (s["signals"][0]["bin_id"], s["signals"][0]["value"]) == (run.empty, 27.5)
    assert (s["tasks"][0]["ref"], s["tasks"][0]["state"]) == ("T1", "open")
    assert (s["state"], s["counts"], s["lines"][0]["on_hand"]) == ("done", {"held": 1}, 11.0)
    assert s["lines"][0]["name"] == run.bundle.catalogue["SKU-000023"].name
    assert c.get(f"/api/bins/{run.empty}").json()["sync"]["reason"] == "zero"
    run.append("sync.report", wms="builtin", report={**report, "state": "degraded", "text": "the WMS does not answer"})
    m = c.get("/api/mission").json()
    assert m["degraded"] and any("does not answer" in p for p in m["problems"])


def test_a_viewpoint_given_up_degrades_the_run(run: WebRun, client: Client) -> None:
    run.begin()
    vid = run.plan.viewpoints[0].viewpoint_id
    for _ in range(3):
        run.append("viewpoint.failed", viewpoint_id=vid, what="drive", reason="blocked (code 204)")
    m = client(runs_of(run.dir)).get("/api/mission").json()
    assert m["viewpoints"][0]["state"] == "failed" and m["viewpoints_failed"] == 1
    assert m["degraded"] and "blocked (code 204)" in m["problems"][0]


def test_a_ledger_that_goes_away_leaves_what_was_known(run: WebRun, client: Client) -> None:
    run.begin()
    run.visit(0)
    c = client(runs_of(run.dir))
    counted = c.get("/api/stock_map").json()["summary"]["counted"]
    moved = run.dir / "elsewhere.sqlite"
    (run.dir / "ledger.sqlite").rename(moved)
    m = c.get("/api/mission").json()
    assert m["state"] == "ledger_gone" and m["degraded"] and m["viewpoints_done"] == 1
    assert c.get("/api/stock_map").json()["summary"]["counted"] == counted
    moved.rename(run.dir / "ledger.sqlite")
    assert c.get("/api/mission").json()["state"] == "running"


def test_a_broken_ledger_is_said_to_be_gone(run: WebRun, client: Client) -> None:
    run.begin()
    run.ledger.close()
    for leftover in run.dir.glob("ledger.sqlite*"):
        leftover.unlink()
    (run.dir / "ledger.sqlite").write_bytes(b"this is no database, and long enough to be looked at" * 40)
    assert client(runs_of(run.dir)).get("/api/mission").json()["state"] == "ledger_gone"


def test_a_store_bundle_that_moved(run: WebRun, client: Client, tmp_path: Path) -> None:
    run.begin()
    info = json.loads((run.dir / "run.json").read_text())
    moved = tmp_path / "store"
    shutil.copytree(info["store"], moved)
    (run.dir / "run.json").write_text(json.dumps({**info, "store": "/nowhere/store"}))
    c = client(runs_of(run.dir))
    assert c.get("/api/store").status_code == 404
    m = c.get("/api/mission").json()
    assert m["degraded"] and "/nowhere/store" in m["problems"][0]
    c = client(runs_of(run.dir, store=moved))
    assert c.get("/api/store").status_code == 200
    assert not c.get("/api/mission").json()["degraded"]


def test_the_layout_is_that_of_the_store(run: WebRun, client: Client) -> None:
    layout = client(runs_of(run.dir)).get("/api/store").json()
    drawn = {b["bin_id"]: b for g in layout["gondolas"] for b in g["bins"]}
    assert list(drawn) == run.bins
    for bin_id, place in run.bundle.store.places.items():
        got = [drawn[bin_id][k] for k in ("x0_m", "x1_m", "z0_m", "z1_m")]
        assert got == pytest.approx([place.x0_m, place.x1_m, place.z0_m, place.z1_m], abs=1e-4)
        x, y, _ = place.front_centre_map_m
        x0, y0, x1, y1 = layout["bounds_m"]
        assert x0 < x < x1 and y0 < y < y1
    assert all(x0 < v.pose.x_m < x1 and y0 < v.pose.y_m < y1 for v in run.plan.viewpoints)


@pytest.mark.parametrize(
    "path",
    [
        "/evidence/../run.json",
        "/evidence/%2e%2e/run.json",
        "/evidence/..%2frun.json",
        "/evidence//etc/passwd",
        "/evidence/link.jpg",
        "/evidence/a%00b",
        "/evidence/",
        "/runs/run/ledger.sqlite",
        "/runs/run/config.yaml",
        "/runs/run/evidence/../run.json",
        "/runs/run/evidence/%2e%2e/run.json",
        "/runs/..%2f..%2fetc/passwd",
        "/reference/SKU-000001/-1",
        "/reference/..%2f..%2fstore.yaml/0",
        "/static/../app.py",
    ],
)
def test_nothing_outside_is_served(run: WebRun, client: Client, path: str) -> None:
    (run.dir / "evidence").mkdir(exist_ok=True)
    (run.dir / "evidence" / "link.jpg").symlink_to(run.dir / "run.json")
    answer = client(runs_of(run.dir)).get(path)
    assert answer.status_code == 404 and b"mission_id" not in answer.content


def test_foreign_host_names_are_refused(run: WebRun) -> None:
    runs = runs_of(run.dir)
    assert TestClient(create_app(runs), base_url="http://evil.example").get("/api/runs").status_code == 400
    assert TestClient(create_app(runs, hosts=("*",)), base_url="http://robot.local").get("/api/runs").status_code == 200
    runs.close()


def test_runs_beside_each_other(tmp_path: Path, client: Client) -> None:
    made = [WebRun(tmp_path, f"n{i}", created_at=f"2026-11-2{i}T00:00:00Z") for i in range(3)]
    for run in made:
        run.begin()
    made[0].visit(0)
    (tmp_path / "no-run").mkdir()
    c = client(runs_of(None, tmp_path))
    assert [(r["run"], r["current"]) for r in c.get("/api/runs").json()] == [("n2", True), ("n1", False), ("n0", False)]
    assert c.get("/api/mission").json()["run"] == "n2"
    assert c.get("/api/mission", params={"run": "n0"}).json()["viewpoints_done"] == 1
    assert c.get("/api/mission", params={"run": "../n0"}).status_code == 404
    for run in made:
        run.ledger.close()


def test_nothing_is_loaded_from_elsewhere(run: WebRun, client: Client) -> None:
    c = client(runs_of(run.dir))
    for path in ("/", "/static/app.js", "/static/draw.js", "/static/app.css", "/static/icon.svg"):
        answer = c.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["content-security-policy"].startswith("default-src 'self'")
        text = answer.text.replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "https://" not in text, path
    assert c.get("/docs").status_code == 404
    paths = c.get("/api/openapi.json").json()["paths"]
    assert {"/api/store", "/api/stock_map", "/api/bins/{bin_id}", "/api/mission", "/api/sync", "/api/events"} <= set(paths)
    assert all(set(methods) == {"get"} for methods in paths.values())


def test_events_of_another_version_are_said_and_do_not_hide_the_finished_map(run: WebRun, client: Client) -> None:
    run.begin()
    run.visit(0)
    c = client(runs_of(run.dir))
    coverage = [{"bin_id": run.bins[0], "seen": 1, "blocked": 0, "evidence": ""}]
    v = run.plan.viewpoints[1].viewpoint_id
    run.append("bay_scan", viewpoint_id=v, capture_id="old", stamp_ns=1, coverage=coverage, warnings=[])
    m = c.get("/api/mission")
    assert m.status_code == 200 and "another version" in m.json()["problems"][0]
