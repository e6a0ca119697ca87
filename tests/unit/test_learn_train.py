"""Training on a store's own pictures: starts at what is shipped, goes on when stopped, and replaces only what is worse."""

# ruff: noqa: E402 - what needs torch is imported where it is known to be there
from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from shelfscan.adapters.models import model_path

for package in ("torch", "onnx", "pycocotools"):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install 'shelfscan[train]'")

import torch

from shelfscan.adapters.detect_onnx import OnnxDetector
from shelfscan.adapters.embed_onnx import OnnxEmbedder
from shelfscan.learn.datasets import IGNORE, read_dataset
from shelfscan.learn.detector import COOLING, FitSettings, fit, runner, starting_net, statistics_crops, with_drafts
from shelfscan.learn.export import write_detector, write_embedder
from shelfscan.learn.judge import Quality, better, judge
from shelfscan.learn.unfold import unfold_embedder
from shelfscan.learn.workset import Sample, Workset, prepare
from shelfscan.model.detections import DetectionClass

ROOT = Path(__file__).resolve().parents[2]
QUIET: Callable[..., None] = lambda *_: None  # noqa: E731
SMALL = FitSettings(epochs=1, batch=4, size=128, threads=1, looks=4, zoom=(0.8, 1.2))


def shelf(seed: int) -> tuple[np.ndarray, list[list[float]]]:
    """A drawn shelf and its boxes x, y, width, height."""
    rng = np.random.default_rng(seed)
    img = np.full((320, 384, 3), 70, np.uint8)
    boxes = []
    for y in (20, 170):
        x = 12
        while x < 330:
            w, h = int(rng.integers(34, 50)), int(rng.integers(80, 120))
            colour = rng.integers(60, 250, 3)
            top = y + 120 - h
            img[top : y + 120, x : x + w] = colour
            img[top + 20 : top + 45, x + 5 : x + w - 5] = 255 - colour
            boxes.append([float(x), float(top), float(w), float(h)])
            x += w + int(rng.integers(2, 12))
        img[y + 120 : y + 135] = 200
    return img, boxes


def dataset(folder: Path, seeds: range) -> Path:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for seed in seeds:
        img, boxes = shelf(seed)
        cv2.imwrite(str(folder / "images" / f"{seed}.png"), img[..., ::-1])
        images.append({"id": seed, "file_name": f"{seed}.png", "width": img.shape[1], "height": img.shape[0]})
        first = len(annotations)
        annotations += [{"id": first + i, "image_id": seed, "category_id": 1, "bbox": b} for i, b in enumerate(boxes)]
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "product"}]}
    (folder / "annotations.json").write_text(json.dumps(document))
    return folder


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workset:
    folder = tmp_path_factory.mktemp("learn")
    return prepare(read_dataset(dataset(folder / "data", range(10))), folder / "out", QUIET)


def test_training_starts_at_exactly_what_is_shipped(work: Workset, tmp_path: Path) -> None:
    net = starting_net(model_path("detector"), statistics_crops(work.train, SMALL), "unfold")
    write_detector(net, tmp_path / "again.onnx")
    import onnxruntime

    x = np.random.default_rng(0).random((1, 3, 96, 128), np.float32)
    a, b = (
        onnxruntime.InferenceSession(str(p), providers=["CPUExecutionProvider"]).run(["distances", "scores"], {"image": x})
        for p in (model_path("detector"), tmp_path / "again.onnx")
    )
    np.testing.assert_allclose(a[0], b[0], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(a[1], b[1], atol=1e-4)
    crops = torch.rand(4, 3, 128, 128)
    embedder = unfold_embedder(model_path("embedder"), crops)
    write_embedder(embedder, tmp_path / "embedder.onnx")
    pictures = [np.asarray(c.permute(1, 2, 0) * 255, np.uint8) for c in crops]
    with torch.no_grad():
        ours = embedder(torch.stack([torch.from_numpy(p).permute(2, 0, 1).float() / 255 for p in pictures])).numpy()
    np.testing.assert_allclose(ours, OnnxEmbedder().embed(pictures), atol=1e-4)


def test_a_few_steps_on_a_kind_of_shelf_help_there(work: Workset, tmp_path: Path) -> None:
    settings = dataclasses.replace(SMALL, epochs=5, size=256, zoom=(0.9, 1.1))
    net = starting_net(model_path("detector"), statistics_crops(work.train, settings), settings.norm)
    given = {"PRODUCT": 0.42, "PRICE_TAG": 0.42, "EMPTY": 0.35}
    before = judge(runner(net), work.held_out, given, given, choose=False)
    done = fit(work, work.train, net, settings, tmp_path / "c.pt", "key", QUIET)
    after = judge(runner(done.net), work.held_out, before.thresholds, given, choose=True)
    assert done.steps == 5 * 8
    assert after.ap > before.ap + 0.02, (before, after)
    assert better(after, before) == []
    assert after.thresholds["EMPTY"] == before.thresholds["EMPTY"], "a class without labels keeps its threshold"


def test_without_gain_it_goes_on_to_the_last_quarter_and_not_to_the_end_at_once(work: Workset, tmp_path: Path) -> None:
    settings = dataclasses.replace(SMALL, epochs=5, size=128, lr=0.0, patience=2, looks=20, norm="frozen")
    net = starting_net(model_path("detector"), statistics_crops(work.train, settings), settings.norm)
    done = fit(work, work.train, net, settings, tmp_path / "c.pt", "key", QUIET)
    whole = 5 * 8
    assert done.stopped_early
    assert (0.3 + COOLING) * whole <= done.steps <= (0.45 + COOLING) * whole, "some looks without gain, then the last quarter"


class Stopped(Exception):
    pass


def test_a_stopped_training_ends_as_if_it_had_not_been(work: Workset, tmp_path: Path) -> None:
    def run(checkpoint: Path, report: Callable[..., None]) -> Any:
        torch.manual_seed(0)
        net = starting_net(model_path("detector"), statistics_crops(work.train, SMALL), SMALL.norm)
        return fit(work, work.train, net, SMALL, checkpoint, "key", report)

    whole = run(tmp_path / "whole.pt", QUIET)

    def stop(what: str, done: float) -> None:
        if done > 0.6:
            raise Stopped

    with pytest.raises(Stopped):
        run(tmp_path / "parts.pt", stop)
    assert (tmp_path / "parts.pt").exists()
    again = run(tmp_path / "parts.pt", QUIET)
    assert again.steps == whole.steps
    assert [h["ap"] for h in again.history] == [h["ap"] for h in whole.history]
    for a, b in zip(again.net.state_dict().values(), whole.net.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)


def test_classes_that_nobody_labelled_are_kept_as_they_are_seen(work: Workset) -> None:
    class Finds:
        description = "finds a tag and a product"

        def detect(self, picture: Any) -> Any:
            from shelfscan.model.detections import Detections

            boxes = np.array([[1, 1, 20, 10], [30, 30, 60, 90]], np.float32)
            return Detections(boxes, np.array([0.9, 0.8], np.float32), np.array([1, 0]))

    for before, after in zip(work.train, with_drafts(work, Finds(), QUIET), strict=True):
        assert after.classes.tolist() == [*before.classes.tolist(), int(DetectionClass.PRICE_TAG)]


def test_the_split_stays_when_pictures_are_added(tmp_path: Path) -> None:
    first = prepare(read_dataset(dataset(tmp_path / "data", range(6))), tmp_path / "out", QUIET)
    more = prepare(read_dataset(dataset(tmp_path / "data", range(20))), tmp_path / "out", QUIET)
    assert {s.sha256 for s in first.train} <= {s.sha256 for s in more.train}
    assert {s.sha256 for s in first.held_out} <= {s.sha256 for s in more.held_out}
    assert (len(first.held_out), len(more.held_out)) == (1, 4)
    assert first.fingerprint != more.fingerprint
    assert prepare(read_dataset(tmp_path / "data"), tmp_path / "out", QUIET).fingerprint == more.fingerprint


def test_the_same_picture_twice_and_a_cut_one_are_left_out(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "data", range(4))
    (folder / "images" / "1.png").write_bytes((folder / "images" / "0.png").read_bytes())
    whole = (folder / "images" / "2.png").read_bytes()
    (folder / "images" / "2.png").write_bytes(whole[: len(whole) // 2])
    work = prepare(read_dataset(folder), tmp_path / "out", QUIET)
    assert len(work.train) + len(work.held_out) == 2
    text = "\n".join(work.left_out)
    assert "1.png: the same picture as" in text
    assert "2.png: not a readable picture" in text


def quality(**changes: Any) -> Quality:
    base = Quality(0.4, 0.7, 0.4, 5.0, 0.8, None, {"PRODUCT": 0.4}, {"PRODUCT": 0.5})
    return dataclasses.replace(base, **changes)


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (quality(ap=0.45, ap50=0.75), None),
        (quality(ap=0.402, ap50=0.75), "AP 0.402"),
        (quality(ap=0.45, ap50=0.69), "AP50 0.690"),
        (quality(ap=0.45, ap50=0.75, count_mae=6.0), "counts are off by 6.0"),
        (quality(ap=0.45, ap50=0.75, tag_ap50=0.7), "AP50 of price tags fell"),
    ],
)
def test_what_may_replace_the_weights_in_use(new: Quality, reason: str | None) -> None:
    reasons = better(new, quality())
    assert (reasons == []) if reason is None else (len(reasons) == 1 and reason in reasons[0])


def test_thresholds_are_those_with_the_least_count_error(work: Workset) -> None:
    class Steps:
        """Finds the true boxes at .7 and as many false ones at .3."""

        description = "steps"

        def __init__(self, samples: tuple[Sample, ...]) -> None:
            self.by_size = {s.read().tobytes(): s for s in samples}
            self.latest: Sample | None = None

        def detect(self, picture: Any) -> Any:
            from shelfscan.model.detections import Detections

            # The first look is at the picture as it is, those after it are at smaller copies.
            self.latest = s = self.by_size.get(np.ascontiguousarray(picture).tobytes(), self.latest)
            assert s is not None
            true = s.boxes_px[s.classes != IGNORE]
            false = true + np.array([0, 150, 0, 150], np.float32)
            scores = np.repeat(np.array([0.7, 0.3], np.float32), len(true))
            scale = np.float32(picture.shape[1] / s.read().shape[1])
            return Detections(np.concatenate([true, false]) * scale, scores, np.zeros(len(scores), np.int64))

    given = {"PRODUCT": 0.2, "PRICE_TAG": 0.42, "EMPTY": 0.35}
    loose = judge(Steps(work.held_out), work.held_out, given, given, choose=False)
    chosen = judge(Steps(work.held_out), work.held_out, given, given, choose=True)
    assert loose.count_mae > 5
    assert chosen.count_mae == 0
    assert 0.3 < chosen.thresholds["PRODUCT"] <= 0.7


def shelfscan(*arguments: object, without: str = "") -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    start = f"import sys; sys.modules[{without!r}] = None; " if without else "import sys; "
    code = f"{start}sys.argv[0] = 'shelfscan'; from shelfscan.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], env=env, capture_output=True, text=True, timeout=200
    )


def test_without_torch_the_command_says_what_to_install(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "data", range(2))
    for kind in ("detector", "embedder"):
        done = shelfscan("train", kind, "--data", folder, "--out", tmp_path / "out", without="torch")
        assert done.returncode == 2, done.stderr
        assert "pip install 'shelfscan[train]'" in done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "out").exists()


def test_the_command_trains_compares_and_installs_only_what_is_better(tmp_path: Path) -> None:
    folder, out, site = dataset(tmp_path / "data", range(6)), tmp_path / "out", tmp_path / "site"
    options = ["--data", folder, "--out", out, "--models", site, "--epochs", 1, "--threads", 1, "--json"]
    done = shelfscan("train", "detector", *options)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["installed"] == (result["against"] == [])
    assert result["installed"] == (site / "manifest.json").exists()
    assert {"new", "replaced", "shipped"} <= result.keys()
    forced = shelfscan("train", "detector", *options, "--force")
    again = json.loads(forced.stdout)
    assert again["installed"]
    assert again["steps"] == result["steps"], "a finished training is not made again"
    (entry,) = (m for m in json.loads((site / "manifest.json").read_text())["models"])
    assert entry["command"].startswith("shelfscan train detector --data")
    assert entry["parent"] and entry["metrics"]["held_out"]["values"]["new"]["ap"] == again["new"]["ap"]
    assert "| these |" in (site / entry["card"]).read_text()
    assert OnnxDetector(models=site).settings.thresholds[0] == entry["thresholds"]["PRODUCT"]


def test_bad_labels_leave_nothing_behind(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "data", range(3))
    document = json.loads((folder / "annotations.json").read_text())
    document["annotations"][0]["bbox"] = [0, 0, -1, 5]
    (folder / "annotations.json").write_text(json.dumps(document))
    done = shelfscan("train", "detector", "--data", folder, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "annotations[0].bbox" in done.stderr
    assert not (tmp_path / "out").exists()


def sku_folder(folder: Path) -> Path:
    for sku in range(6):
        for n in range(4):
            rng = np.random.default_rng([sku, n])
            img = np.full((150, 90, 3), np.random.default_rng(sku).integers(40, 220, 3), np.uint8)
            img[30 + 10 * sku : 60 + 10 * sku, 10:80] = 255
            noisy = (img + rng.normal(0, 12, img.shape)).clip(0, 255).astype(np.uint8)
            (folder / f"sku{sku}").mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"sku{sku}" / f"{n}.png"), noisy)
    return folder


def test_the_embedder_command_trains_and_guards(tmp_path: Path) -> None:
    data, out = sku_folder(tmp_path / "skus"), tmp_path / "out"
    (data / "sku0" / "bad.jpg").write_bytes(b"no picture")
    done = shelfscan("train", "embedder", "--data", data, "--out", out, "--epochs", 2, "--threads", 1, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["held_out_pictures"] == 6
    assert result["training_pictures"] == 18
    assert "bad.jpg" in result["left_out"][0]
    # The shipped weights tell these apart, so nothing can name two more of them: they stay.
    assert result["shipped"]["top1"] == 1.0
    assert not result["installed"]
    assert "at least 2 are asked for" in " ".join(result["against"])
    assert not (out / "models").exists()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("file,name\na.jpg,x\n", "missing column sku"),
        ("file,sku\na.jpg,\n", "line 2: sku: empty"),
        ("file,sku\na.jpg,x\na.jpg,y\n", "line 3: file a.jpg is there already, in line 2"),
    ],
)
def test_a_wrong_labels_csv_is_named(tmp_path: Path, rows: str, said: str) -> None:
    (tmp_path / "labels.csv").write_text(rows)
    done = shelfscan("train", "embedder", "--data", tmp_path, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "out").exists()
