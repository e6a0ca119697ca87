"""A recorded mission processed again gives what it gave: same bytes in, same code, same scans and the same map.

Tolerance: none. Between a capture in memory and one that went through a message the pose differs by rounding (1e-16), so the
reference is what perception sees: the capture out of its messages.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("mujoco")

from shelfscan.adapters.bag_write import BagWriter
from shelfscan.adapters.frame_msgs import bundle_from_msgs
from shelfscan.adapters.frames_cdr import (
    EVENT_TYPE,
    EVENTS_TOPIC,
    FRAME_TYPE,
    FRAMES_TOPIC,
    encode_capture,
    encode_event,
    scan_done,
)
from shelfscan.adapters.frames_mcap import BagFrameSource
from shelfscan.adapters.msg_schema import schema_text, typestore_of
from shelfscan.bootstrap import make_pipeline, make_projector
from shelfscan.bundle import load_bundle
from shelfscan.cli.replay import replay_bag
from shelfscan.config import Config
from shelfscan.errors import BadInput
from shelfscan.mission.plan import plan_mission
from shelfscan.model.bundle import Bundle
from shelfscan.model.imaging import FrameBundle, Rgb
from shelfscan.model.stock import StockMap
from shelfscan.paths import shared_file
from shelfscan.perception.place_checks import PlaceChecker
from shelfscan.pipeline import ScanResult
from shelfscan.ports import Event, TagText

MISSION = "replay-test"
START_NS = 1_700_000_000_000_000_000
#: Reading tags says nothing about replaying, and takes a third of the time.
# What is hidden of people has tests of its own; pictures without a note would be looked at, and changed, by replay alone.
CONFIG = Config.model_validate(
    {"tags": {"reader": "none"}, "detector": {"threads": 1}, "embedder": {"threads": 1}, "privacy": {"blur": False}}
)


def messages_of(bundle: FrameBundle) -> FrameBundle:
    """The capture as perception gets it."""
    types = typestore_of({FRAME_TYPE: schema_text(FRAME_TYPE)})
    return bundle_from_msgs(types.deserialize_cdr(data, FRAME_TYPE) for data in encode_capture(bundle))


@pytest.fixture(scope="module")
def store() -> Bundle:
    return load_bundle(shared_file("maps", "demo"))


class Live:
    """What the live run saw and made of it."""

    def __init__(self, store: Bundle, folder: Path) -> None:
        from shelfscan.sim.scene import scene_of
        from shelfscan.sim.simulator import Simulator

        os.environ.setdefault("MUJOCO_GL", "egl")
        self.bag = folder / "bag"
        pipeline = make_pipeline(store, CONFIG)
        plan = plan_mission(store.store, store.robot, store.grid, mission_id=MISSION)
        facts = {"mission_id": MISSION, "plan": plan.to_json()}
        started = Event("mission.started", f"mission.started/{MISSION}", START_NS, facts)
        self.events = [started]
        self.results: list[ScanResult] = []
        writer = BagWriter(self.bag)
        writer.write(EVENTS_TOPIC, EVENT_TYPE, encode_event(started), START_NS)
        for n, viewpoint in enumerate(plan.viewpoints):
            start_ns = START_NS + n * 10_000_000_000
            sim = Simulator(scene_of(store.root), store.robot, store.grid, seed=0, start_ns=start_ns, start=viewpoint.pose)
            try:
                sim.step(0.3)
                seen = sim.capture(MISSION, viewpoint.viewpoint_id)
            finally:
                sim.close()
            for data in encode_capture(seen):
                writer.write(FRAMES_TOPIC, FRAME_TYPE, data, seen.stamp_ns)
            result = pipeline.process(messages_of(seen))
            self.results.append(result)
            key = f"bay_scan/{MISSION}/{seen.capture_id}"
            self.events.append(Event("bay_scan", key, seen.stamp_ns, result.scan.to_json()))
        ended = Event(
            "mission.ended",
            f"mission.ended/{MISSION}/1",
            START_NS + 60_000_000_000,
            {"mission_id": MISSION, "phase": "done", "message": "every viewpoint scanned"},
        )
        self.events.append(ended)
        writer.write(EVENTS_TOPIC, EVENT_TYPE, encode_event(ended), ended.stamp_ns)
        writer.close()

    def stock_map(self, store: Bundle) -> StockMap:
        projector = make_projector(store, MISSION)
        for event in self.events:
            projector.add_event(event)
        return projector.stock_map(self.events[-1].stamp_ns)


@pytest.fixture(scope="module")
def live(store: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Live:
    return Live(store, tmp_path_factory.mktemp("live"))


def test_the_same_scans_and_evidence(store: Bundle, live: Live) -> None:
    pipeline = make_pipeline(store, CONFIG)
    again = [pipeline.process(b) for b in BagFrameSource(live.bag).frames()]
    assert [r.scan.to_json() for r in again] == [r.scan.to_json() for r in live.results]
    assert [dict(r.evidence) for r in again] == [dict(r.evidence) for r in live.results]
    assert sum(len(r.scan.observations) for r in again) > 50, "the store's products were seen"


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_heads_at_once_change_nothing(store: Bundle, live: Live, at_once: int) -> None:
    pipeline = make_pipeline(store, CONFIG, at_once)
    for _ in pipeline.prepare():
        pass
    for bundle, before in zip(BagFrameSource(live.bag).frames(), live.results, strict=True):
        for _ in range(2):
            result = pipeline.process(bundle)
            assert result.scan.to_json() == before.scan.to_json()
            assert dict(result.evidence) == dict(before.evidence)


def test_nothing_of_a_capture_goes_on_once_it_failed(store: Bundle, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    class SlowReader:
        begun = ended = 0

        def read(self, crop: Rgb) -> TagText:
            self.begun += 1
            time.sleep(0.05)
            self.ended += 1
            return TagText()

    def fails(*args: object) -> None:
        raise ValueError("of no use")

    reader = SlowReader()
    pipeline = make_pipeline(store, CONFIG, 2)
    monkeypatch.setattr(pipeline, "_tags", reader)
    monkeypatch.setattr(PlaceChecker, "planned", fails)
    bundle = next(iter(BagFrameSource(live.bag).frames()))
    with pytest.raises(ValueError, match="of no use"):
        pipeline.process(bundle)
    read = reader.begun
    assert read > 1 and reader.ended == read
    time.sleep(0.2)
    assert reader.begun == read, "no tag is read after that"


def test_the_same_map(store: Bundle, live: Live, tmp_path: Path) -> None:
    done = replay_bag(store, CONFIG, live.bag, tmp_path / "run")
    assert done.problems == ()
    written = json.loads((tmp_path / "run" / "stock_map.json").read_text())
    assert written == json.loads(json.dumps(live.stock_map(store).to_json()))
    assert sum(b["status"] != "UNSEEN" for b in written["bins"]) > 10
    assert json.loads((tmp_path / "run" / "run.json").read_text())["mode"] == "replay"
    for b in written["bins"]:
        for name in b["evidence"]:
            assert (tmp_path / "run" / name).is_file()


def test_a_bag_without_mission_facts_is_planned_anew(store: Bundle, live: Live, tmp_path: Path) -> None:
    writer = BagWriter(tmp_path / "bag")
    for frames in BagFrameSource(live.bag).frames():
        for data in encode_capture(frames):
            writer.write(FRAMES_TOPIC, FRAME_TYPE, data, frames.stamp_ns)
    writer.close()
    done = replay_bag(store, CONFIG, tmp_path / "bag", tmp_path / "run")
    assert done.run.report["mission"]["phase"] == "done"
    counted = {b.bin_id: (b.status, b.facings, b.units) for b in done.run.stock_map.bins}
    assert counted == {b.bin_id: (b.status, b.facings, b.units) for b in live.stock_map(store).bins}


def test_a_capture_the_live_run_made_no_scan_of_is_left_out(store: Bundle, live: Live, tmp_path: Path) -> None:
    captures = list(BagFrameSource(live.bag).frames())
    last = captures[-1]
    late = replace(last, capture_id=f"{last.viewpoint_id}-late", stamp_ns=last.stamp_ns + 10**9)
    writer = BagWriter(tmp_path / "bag")
    for frames in (*captures, late):
        for data in encode_capture(frames):
            writer.write(FRAMES_TOPIC, FRAME_TYPE, data, frames.stamp_ns)
    facts = [e for e in live.events if e.kind != "bay_scan"]
    facts[1:1] = [scan_done(MISSION, f.viewpoint_id, f.capture_id, f.stamp_ns) for f in captures]
    for event in facts:
        writer.write(EVENTS_TOPIC, EVENT_TYPE, encode_event(event), event.stamp_ns)
    writer.close()
    done = replay_bag(store, CONFIG, tmp_path / "bag", tmp_path / "run")
    assert done.captures == len(captures) and any(late.capture_id in p for p in done.problems)
    assert done.run.stock_map.to_json() == live.stock_map(store).to_json()
    assert replay_bag(store, CONFIG, tmp_path / "bag", tmp_path / "all", everything=True).captures == len(captures) + 1


def test_another_stores_bag_leaves_nothing_behind(store: Bundle, live: Live, tmp_path: Path) -> None:
    writer = BagWriter(tmp_path / "bag")
    plan = {"mission_id": MISSION, "site": "elsewhere", "viewpoints": [], "unreachable_bins": []}
    started = Event("mission.started", "k", 1, {"mission_id": MISSION, "plan": plan})
    writer.write(EVENTS_TOPIC, EVENT_TYPE, encode_event(started), 1)
    for data in encode_capture(next(iter(BagFrameSource(live.bag).frames()))):
        writer.write(FRAMES_TOPIC, FRAME_TYPE, data, 2)
    writer.close()
    with pytest.raises(BadInput, match="'elsewhere'"):
        replay_bag(store, CONFIG, tmp_path / "bag", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_with_something_in_it_is_not_touched(store: Bundle, live: Live, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("x")
    with pytest.raises(BadInput, match="not empty"):
        replay_bag(store, CONFIG, live.bag, tmp_path / "run")
    assert (tmp_path / "run" / "mine.txt").read_text() == "x"
