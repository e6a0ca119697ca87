"""Sick robots, on scans made of numbers: each sickness is told and placed, and a healthy night tells nothing."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import cv2
import numpy as np
import pytest

from shelfscan.adapters.health_file import load_baseline, save_baseline
from shelfscan.audit.health import Baseline, diagnose, learned, measured, side_by_side
from shelfscan.errors import BadInput
from shelfscan.model.detections import Candidate
from shelfscan.model.geometry import Pose2D
from shelfscan.model.imaging import HeadFrame
from shelfscan.model.mission import Viewpoint
from shelfscan.model.planogram import PlanogramLine
from shelfscan.model.scan import BayScan, BinCoverage, Observation
from shelfscan.paths import shared_file
from shelfscan.perception.quality import CELL_COLUMNS, CELL_ROWS, BlurGuard, measures, row_offset_px, sharpness_of

FULL = (1 << 128) - 1
PLANOGRAM = {f"b{n}": PlanogramLine(f"b{n}", f"S{n}", 4, 1, 3) for n in range(20)}
AISLE = {f"V{n:02d}": "A01" if n < 6 else "A02" for n in range(12)}


def night(
    seed: int,
    *,
    sharp: float = 1.0,
    smear: tuple[int, int] | None = None,
    offset: tuple[float, float, float] = (0, 0, 0),
    rows_px: float = 0.3,
    dark: range = range(0),
    boxes: float = 1.0,
    like: float = 0.84,
) -> list[BayScan]:
    """A run of twelve captures by two heads; what is sick is head ``high`` unless it is all."""
    rng = np.random.default_rng(seed)
    out = []
    for n in range(12):
        quality: dict[str, float] = {}
        for head in ("low", "high"):
            ill = head == "high"
            level = rng.normal(1, 0.05) * (sharp if ill else 1.0)
            quality[f"{head}.sharpness"] = 1200 * level
            quality[f"{head}.brightness"] = 110 * rng.normal(1, 0.05) * (0.35 if n in dark else 1.0)
            quality[f"{head}.rows_px"] = rng.normal(rows_px if ill else 0.3, 0.05)
            for r in range(CELL_ROWS):
                for c in range(CELL_COLUMNS):
                    soft = 0.3 if ill and smear == (r, c) else 1.0
                    quality[f"{head}.cell_{r}_{c}"] = 20 * np.sqrt(level) * rng.normal(1, 0.15) * soft
        observations = []
        for k in range(round(8 * boxes)):
            face = np.array([0.1 * k + n, 0.02, 0.2 + 0.15 * (k % 6)])
            for head in ("low", "high"):
                moved = face + np.array(offset) * (head == "high") + rng.normal(0, 0.001, 3)
                where = (float(moved[0]), float(moved[1]), float(moved[2]))
                score = float(np.clip(rng.normal(like, 0.05), 0, 1))
                candidate = (Candidate(f"S{k}", score),)
                observations.append(
                    Observation(f"{n}/{k}/{head}", head, "G", (0, 0, 9, 9), 0.9, where, where, (0.06, 0.1), 0.9, 0.1, candidate)
                )
        coverage = tuple(BinCoverage(f"b{(3 * n + i) % 20}", FULL, 0) for i in range(3))
        out.append(BayScan("m", f"V{n:02d}", f"c{n}", n, (), tuple(observations), (), coverage, quality=quality))
    return out


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    return learned([measured(night(s), PLANOGRAM) for s in range(6)])


def told(scans: list[BayScan], baseline: Baseline) -> list[tuple[str, str]]:
    return [(s.kind, s.where) for s in diagnose(measured(scans, PLANOGRAM), baseline, scans, AISLE)]


def test_a_healthy_night_tells_nothing(baseline: Baseline) -> None:
    assert [told(night(s), baseline) for s in range(100, 130)] == [[]] * 30


@pytest.mark.parametrize("seed", range(200, 205))
def test_each_sickness_is_told_and_placed(baseline: Baseline, seed: int) -> None:
    assert told(night(seed, sharp=0.25), baseline) == [("defocus", "high")]
    assert told(night(seed, smear=(2, 1)), baseline) == [("lens_smear", "high")]
    assert told(night(seed, offset=(0.016, 0, 0)), baseline) == [("camera_turned", "high and low")]
    assert told(night(seed, offset=(0, 0.02, 0)), baseline) == [("calibration_drift", "high and low")]
    assert told(night(seed, rows_px=1.4), baseline) == [("calibration_drift", "high")]
    assert told(night(seed, dark=range(2, 5)), baseline) == [("lamp_out", "A01")]
    assert told(night(seed, boxes=0.65), baseline) == [("detector_weak", "all cameras")]
    assert told(night(seed, like=0.76), baseline)[0][0] == "new_packaging"


def test_a_large_smear_that_takes_the_best_of_the_picture_too_is_no_defocus(baseline: Baseline) -> None:
    for seed in range(200, 205):
        assert told(night(seed, smear=(2, 1), sharp=0.45), baseline) == [("lens_smear", "high")]


def test_one_dark_picture_is_no_lamp_and_few_captures_say_nothing(baseline: Baseline) -> None:
    assert told(night(1, dark=range(4, 5)), baseline) == []
    assert measured(night(1)[:3], PLANOGRAM) == {}
    assert diagnose({}, baseline, [], {}) == []
    assert measured([replace(s, quality={}) for s in night(1)], PLANOGRAM) == {}


def test_what_was_hidden_for_people_is_no_smear(baseline: Baseline) -> None:
    """People, or what is taken for them, are at a picture's side mostly; those parts are absent and the others are as ever."""
    for seed in range(100, 110):
        scans = night(seed)
        for n, scan in enumerate(scans):
            for head in ("low", "high") if n % 2 else ():
                for r in range(CELL_ROWS):
                    del scan.quality[f"{head}.cell_{r}_{CELL_COLUMNS - 1}"]
        assert told(scans, baseline) == []
        for scan in scans[:10]:
            for name in [k for k in scan.quality if k.startswith("high.cell_3_")]:
                del scan.quality[name]
        assert told(scans, baseline) == []
    smeared = night(3, smear=(2, 1))
    for scan in smeared[::2]:
        del scan.quality["high.cell_2_1"]
    assert told(smeared, baseline) == [("lens_smear", "high")]


def test_hidden_parts_of_a_picture_are_not_measured() -> None:
    rng = np.random.default_rng(5)
    picture = cv2.GaussianBlur(rng.integers(0, 255, (600, 400, 3)).astype(np.uint8), (0, 0), 1.5)
    frame = cast(HeadFrame, SimpleNamespace(left=np.zeros((40, 40), np.uint8), right=np.zeros((40, 40), np.uint8)))
    clear = measures(frame, picture)
    hidden = np.zeros((150, 100), bool)
    hidden[:, 70:] = True
    blurred = picture.copy()
    blurred[:, 280:] = cv2.GaussianBlur(picture[:, 280:], (0, 0), 25)
    soft, left = measures(frame, blurred), measures(frame, blurred, hidden)
    assert soft["cell_2_3"] < 0.3 * clear["cell_2_3"] and soft["sharpness"] < 0.8 * clear["sharpness"]
    assert not any(k.endswith("_3") for k in left) and {f"cell_{r}_{c}" for r in range(6) for c in range(3)} <= set(left)
    assert left["sharpness"] == pytest.approx(clear["sharpness"], rel=0.05)
    assert left["cell_2_2"] == pytest.approx(clear["cell_2_2"], rel=0.1)
    assert measures(frame, blurred, np.ones((150, 100), bool)) == {}


def test_without_a_baseline_only_what_a_run_shows_by_itself_is_told() -> None:
    scans = night(1, sharp=0.2, dark=range(2, 5))
    assert [(s.kind, s.where) for s in diagnose(measured(scans, PLANOGRAM), Baseline(), scans, AISLE)] == [("lamp_out", "A01")]


def test_two_nights_are_no_baseline() -> None:
    assert learned([measured(night(s), PLANOGRAM) for s in range(2)]).usual == {}


@pytest.mark.parametrize("down_px", [-1.5, 0.0, 0.4, 2.0])
def test_how_far_the_rows_of_a_stereo_pair_are_apart(down_px: float) -> None:
    rng = np.random.default_rng(3)
    scene = cv2.GaussianBlur(rng.integers(0, 255, (720, 1400)).astype(np.uint8), (0, 0), 2.0)
    scene = cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX)
    left = scene[:, 60:1340]
    M = np.array([[1, 0, -60.0 - 40], [0, 1, down_px]])
    right = cv2.warpAffine(scene, M, (1280, 720), flags=cv2.INTER_CUBIC)
    found = row_offset_px(np.ascontiguousarray(left), right)
    assert found == pytest.approx(down_px, abs=0.15)
    assert row_offset_px(np.zeros((720, 1280), np.uint8), right) is None


def test_files(tmp_path: Path, baseline: Baseline) -> None:
    path = tmp_path / "health.json"
    save_baseline(path, baseline, {"n": 6})
    again = load_baseline(path)
    assert again.runs == 6 and again.usual.keys() == baseline.usual.keys()
    path.write_text(json.dumps({"usual": {"low.sharpness": [1.0, -2.0]}, "runs": 3}))
    with pytest.raises(BadInput, match=r"usual.low.sharpness"):
        load_baseline(path)
    assert {"low.sharpness", "high.rows_px", "high-low.offset_x_m", "all.boxes"} <= set(
        load_baseline(shared_file("models", "health.json")).usual
    )


def test_a_blurred_picture_is_taken_again_and_a_head_out_of_focus_is_not_forever() -> None:
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 255, (200, 200)).astype(np.uint8)
    soft = cv2.GaussianBlur(sharp, (0, 0), 3.0)
    assert sharpness_of(soft) < 0.05 * sharpness_of(sharp)
    guard = BlurGuard()
    assert not guard.blurred("low", 1.0), "nothing is usual yet"
    for _ in range(5):
        guard.taken("low", sharpness_of(sharp))
    assert guard.blurred("low", sharpness_of(soft)) and not guard.blurred("low", 0.6 * sharpness_of(sharp))
    assert not guard.blurred("high", sharpness_of(soft)), "another head has its own"
    for _ in range(40):
        guard.taken("low", sharpness_of(soft))
    assert not guard.blurred("low", sharpness_of(soft))


def _lights(seed: int, captures: int, dark: range = range(0)) -> list[BayScan]:
    """A night whose exposures wander by one stop either way from picture to picture."""
    rng = np.random.default_rng(seed)
    first = night(1)[0]
    out = []
    for n in range(captures):
        light = 110 * 2 ** rng.uniform(-1, 1) * (0.3 if n in dark else 1.0)
        quality = {"low.brightness": light, "high.brightness": 0.9 * light}
        out.append(replace(first, viewpoint_id=f"V{n}", capture_id=f"c{n}", stamp_ns=n + 1, quality=quality))
    return out


def test_wandering_exposures_are_no_lamps() -> None:
    aisles = {f"V{n}": f"A{n // 48}" for n in range(192)}
    false = [s for seed in range(40) for s in diagnose({}, Baseline(), _lights(seed, 192), aisles)]
    assert len(false) <= 1, "of forty long nights"
    for seed in range(10):
        (found,) = diagnose({}, Baseline(), _lights(seed, 192, range(100, 109)), aisles)
        assert (found.kind, found.where) == ("lamp_out", "A2")


def test_a_lamp_is_looked_for_on_both_sides_of_its_aisle() -> None:
    there = [Viewpoint(f"L{n}", "A1-L", "A1", Pose2D(0.5 * n, 1.0, 0.0), (), ()) for n in range(3)]
    back = [Viewpoint(f"R{n}", "A1-R", "A1", Pose2D(1.1 - 0.5 * n, -1.0, math.pi), (), ()) for n in range(3)]
    assert side_by_side([*there, *back]) == ["L0", "R2", "L1", "R1", "L2", "R0"]
