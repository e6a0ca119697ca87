"""What is queued for labelling is what the networks doubt, and no picture twice over."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from fakes.command_line import shelfscan

from shelfscan.errors import BadInput
from shelfscan.learn.exchange import queued, write_queue
from shelfscan.learn.queue import Reviewed, choose, review
from shelfscan.model.detections import DetectionClass, Detections
from shelfscan.model.imaging import Rgb

ROOT = Path(__file__).resolve().parents[2]
THRESHOLDS = (0.5, 0.5, 0.5)


class Scripted:
    """A `Detector` that finds given boxes (of the full size of the picture) with a score that may depend on its size."""

    description = "scripted"

    def __init__(self, width: int, boxes: list[tuple[tuple[float, float, float, float], float, float]]) -> None:
        self.width, self.boxes = width, boxes

    def detect(self, picture: Rgb) -> Detections:
        scale = picture.shape[1] / self.width
        mine = [(b, full if scale > 0.95 else reduced) for b, full, reduced in self.boxes]
        mine = sorted((m for m in mine if m[1] > 0), key=lambda m: -m[1])
        return Detections(
            np.array([b for b, _ in mine], np.float32).reshape(-1, 4) * np.float32(scale),
            np.array([s for _, s in mine], np.float32),
            np.zeros(len(mine), np.int64),
        )


def noise(seed: int, size: tuple[int, int] = (600, 1000)) -> Rgb:
    small = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
    return np.asarray(cv2.resize(small, size[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)


def test_doubts_are_near_the_threshold_or_in_one_look_only() -> None:
    sure, near, lonely = (10.0, 10.0, 90.0, 200.0), (200.0, 10.0, 290.0, 200.0), (400.0, 10.0, 490.0, 200.0)
    detector = Scripted(1000, [(sure, 0.9, 0.9), (near, 0.52, 0.52), (lonely, 0.8, 0.0)])
    found = review(detector, THRESHOLDS, noise(1), None)
    assert {(d.box_px, d.why) for d in found.doubts} == {(near, "near threshold"), (lonely, "disagreement")}
    assert len(found.drafts) == 2, "what only one look saw is no product, but somebody should look"
    assert 0 < found.worth < 1


def reviewed(weight: float, like: int) -> Reviewed:
    score = 0.5 + 0.1 * (1 - weight)
    detector = Scripted(1000, [((10.0, 10.0, 90.0, 200.0), score, score)])
    found = review(detector, THRESHOLDS, noise(like), None)
    assert found.doubts[0].weight == pytest.approx(weight, abs=0.02)
    return found


def test_the_most_doubtful_come_first_but_not_two_alike() -> None:
    pictures = [reviewed(0.9, 1), reviewed(0.8, 1), reviewed(0.6, 2), reviewed(0.1, 3)]
    assert choose(pictures, 2) == [0, 2]
    assert choose(pictures, 9) == [0, 2, 1, 3]


def test_a_queue_is_written_for_every_tool_and_not_over_another(tmp_path: Path) -> None:
    detector = Scripted(1000, [((10.0, 10.0, 90.0, 200.0), 0.52, 0.52)])
    one = queued("a.jpg", "a", noise(1), review(detector, THRESHOLDS, noise(1), None))
    write_queue(tmp_path / "q", [one], "scripted")
    (task,) = json.loads((tmp_path / "q" / "label_studio.json").read_text())
    assert task["data"]["image"].endswith(f"images/{one.name}")
    assert task["predictions"][0]["result"][0]["value"]["rectanglelabels"] == ["product"]
    assert len(json.loads((tmp_path / "q" / "annotations.json").read_text())["annotations"]) == 1
    assert f'name="{one.name}"' in (tmp_path / "q" / "annotations.xml").read_text()
    with (tmp_path / "q" / "queue.csv").open(newline="") as f:
        (row,) = csv.DictReader(f)
    assert (row["class"], row["why"]) == (DetectionClass.PRODUCT.name, "near threshold")
    with pytest.raises(BadInput, match="holds a queue already"):
        write_queue(tmp_path / "q", [one], "scripted")


def test_from_photographs_to_a_data_set(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for seed in range(3):
        cv2.imwrite(str(photos / f"{seed}.jpg"), noise(seed, (300, 400)))
    (photos / "broken.jpg").write_bytes(b"no picture")
    done = shelfscan("label", "queue", photos, "--out", tmp_path / "q", "--count", 2, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["looked_at"], len(result["chosen"])) == (3, 2)
    assert "broken.jpg" in result["left_out"][0]
    # Nobody has submitted anything yet.
    refused = shelfscan("label", "import", tmp_path / "q" / "label_studio.json", "--into", tmp_path / "set")
    assert refused.returncode == 2
    assert "none of its 2 tasks has an annotation that was submitted" in refused.stderr
    assert not (tmp_path / "set").exists()
    merged = shelfscan("label", "import", tmp_path / "q" / "annotations.xml", "--into", tmp_path / "set", "--json")
    assert merged.returncode == 0, merged.stderr
    assert json.loads(merged.stdout)["added"] == 2
    assert len(list((tmp_path / "set" / "images").iterdir())) == 2


def test_a_run_without_a_recording_has_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "ledger.sqlite").write_bytes(b"")
    done = shelfscan("label", "queue", tmp_path / "run", "--out", tmp_path / "q")
    assert done.returncode == 2
    assert "recorded no bag" in done.stderr
    assert not (tmp_path / "q").exists()
