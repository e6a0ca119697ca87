"""Comparing backends: what agrees is said to agree, what does not is found, and the table names what could not be run."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shelfscan.adapters._pack_embedder import PackEmbedder
from shelfscan.adapters._shelf_detector import Look, ShelfDetector
from shelfscan.adapters.detect_onnx import OnnxDetector
from shelfscan.adapters.embed_onnx import OnnxEmbedder
from shelfscan.evaluation.backends import (
    CROPS,
    LEAST_MATCHED,
    SCORE_TOLERANCE,
    compare_detectors,
    compare_embedders,
    golden_crops,
    golden_pictures,
)
from shelfscan.model.imaging import Rgb
from shelfscan.paths import ROOT
from shelfscan.perception import decode

PICTURES = golden_pictures()


@pytest.fixture(scope="module")
def reference() -> OnnxDetector:
    return OnnxDetector(threads=1, precision="fp32")


@pytest.fixture(scope="module")
def looks(reference: OnnxDetector) -> dict[int, Look]:
    return {id(p): reference.look(p) for p in PICTURES}


class Changed(ShelfDetector):
    """A detector whose network says what the reference's says, but for a change."""

    def __init__(self, reference: ShelfDetector, looks: dict[int, Look], scores: float = 0.0, distances: float = 1.0) -> None:
        super().__init__(lambda blob: (blob, blob), reference.settings, "changed")
        self.looks, self.scores, self.distances = looks, scores, distances

    def look(self, picture: Rgb) -> Look:
        look = self.looks[id(picture)]
        return replace(look, scores=(look.scores + self.scores).clip(0, 1), distances=look.distances * self.distances)


def test_a_network_agrees_with_itself(reference: OnnxDetector, looks: dict[int, Look]) -> None:
    found = compare_detectors(Changed(reference, looks), Changed(reference, looks), PICTURES)
    assert (found.matched, found.score_worst) == (1.0, 0.0) and found.within
    assert found.compared >= 100, "too few boxes to speak of one in a hundred"


@pytest.mark.parametrize(
    ("scores", "distances", "within"),
    [(0.01, 1.0, True), (-0.015, 1.0, True), (0.03, 1.0, False), (-0.03, 1.0, False), (0.0, 1.01, True), (0.0, 1.2, False)],
)
def test_small_differences_are_within_and_larger_ones_are_not(
    reference: OnnxDetector, looks: dict[int, Look], scores: float, distances: float, within: bool
) -> None:
    found = compare_detectors(Changed(reference, looks), Changed(reference, looks, scores, distances), PICTURES)
    assert found.within is within, found
    assert found.score_worst == pytest.approx(abs(scores), abs=1e-3)


def test_boxes_that_only_one_finds_count_whichever_it_is(reference: OnnxDetector, looks: dict[int, Look]) -> None:
    blind = Changed(reference, looks, -1.0)
    assert compare_detectors(Changed(reference, looks), blind, PICTURES).matched == 0.0
    assert compare_detectors(blind, Changed(reference, looks), PICTURES).matched == 0.0


def test_the_cells_of_boxes_are_theirs(reference: OnnxDetector, looks: dict[int, Look]) -> None:
    for look in looks.values():
        found, cells = reference.boxes(look)
        np.testing.assert_array_equal(found.scores, look.scores[found.classes, cells])
        plain = decode.decode(
            look.distances, look.scores, look.shape, look.back, reference.settings.thresholds, reference.settings.iou
        )
        np.testing.assert_array_equal(found.boxes_px, plain.boxes_px)


def test_embedders_that_say_something_else_are_found(reference: OnnxDetector) -> None:
    crops = golden_crops(reference, PICTURES)
    assert 20 <= len(crops) <= CROPS
    embedder = OnnxEmbedder(threads=1)
    rng = np.random.default_rng(0)
    session = embedder._run

    def noisy(amount: float) -> PackEmbedder:
        def run(batch: np.ndarray) -> np.ndarray:
            out = session(batch)
            return out + amount * rng.normal(size=out.shape).astype(np.float32)

        return PackEmbedder(run, embedder._side, embedder.length, "noisy")

    assert compare_embedders(embedder, noisy(0.0), crops).score_worst == 0.0
    assert compare_embedders(embedder, noisy(1e-4), crops).within
    assert not compare_embedders(embedder, noisy(0.03), crops).within


@pytest.mark.timeout(200)
def test_bench_prints_the_table_and_what_was_not_run() -> None:
    command = [sys.executable, "-m", "shelfscan.cli.main", "bench", "--backends", "--repeats", "1", "--json"]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, env=env)
    said = json.loads(done.stdout)
    assert done.returncode == (0 if said["ok"] else 1)
    assert said["ok"] == all(r["within"] for r in said["rows"])
    assert said["tolerance"] == {"iou": 0.9, "matched": LEAST_MATCHED, "score": SCORE_TOLERANCE}
    ways = {(r["model"], r["backend"], r["precision"]) for r in said["rows"]}
    skipped = {(n["model"], n["backend"], n["precision"]) for n in said["not_run"]}
    for model in ("detector", "embedder"):
        assert (model, "onnxruntime", "fp32") in ways
        for backend, precisions in {"openvino": ("fp32", "bf16", "int8"), "tensorrt": ("fp32", "fp16", "int8")}.items():
            for precision in precisions:
                assert (model, backend, precision) in ways | skipped
        if importlib.util.find_spec("onnx") is not None:
            assert (model, "onnxruntime", "fp16-typed") in ways
    assert ways & skipped == set() and all(n["why"] for n in said["not_run"])
    # The same weights in the same arithmetic: whatever they are, these must agree.
    floats = [r for r in said["rows"] if r["precision"] in ("fp32", "fp16", "fp16-typed")]
    assert [r for r in floats if not r["within"]] == []


def test_bench_of_backends_takes_no_store(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "shelfscan.cli.main", "bench", "--backends", "--store", str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 2 and "--store is not for --backends" in done.stderr


@pytest.mark.long
@pytest.mark.timeout(600)
def test_nvidia_s_own_builder_takes_both_networks_in_every_precision() -> None:
    """Engines are built ahead of time, without a GPU, and not executed. The wheels come from the package registry."""
    pytest.importorskip("onnx", reason="onnx is not installed")
    command = [sys.executable, "-m", "benchmarks.engine_builds", "--fetch", "--json"]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=550, cwd=ROOT, env=env)
    if done.returncode == 3:
        pytest.skip(f"NVIDIA's builder is not to be had here: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout[done.stdout.index("{") :])
    assert said["executed"] is False
    assert {(e["model"], e["precision"]) for e in said["engines"]} == {
        (m, p) for m in ("detector", "embedder") for p in ("fp32", "fp16", "int8")
    }
    assert all(e["engine_bytes"] > 100_000 for e in said["engines"])


def test_a_cast_that_the_converter_wrote_twice_is_there_once() -> None:
    onnx = pytest.importorskip("onnx")
    from shelfscan.adapters._onnx_typed import once_each

    cast = onnx.helper.make_node("Cast", ["x16"], ["x"], name="cast", to=onnx.TensorProto.FLOAT)
    half = onnx.helper.make_node("Cast", ["x32"], ["x16"], name="half", to=onnx.TensorProto.FLOAT16)
    tensors = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1]) for n in ("x32", "x")]
    reader = onnx.helper.make_node("Relu", ["x"], ["y"], name="reader")
    graph = onnx.helper.make_graph([half, cast, reader, cast], "g", tensors[:1], tensors[1:])
    once_each(graph.node)
    assert [n.name for n in graph.node] == ["half", "cast", "reader"], "nobody reads what comes later"
    onnx.checker.check_model(onnx.helper.make_model(graph))
