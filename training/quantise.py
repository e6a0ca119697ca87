"""Make the int8 variants of a shipped network: ``python -m training.quantise --calibrate POOL … --measure POOL …``.

Two files (`training.qdq`): ``int8`` for processors and ``int8_symmetric`` for TensorRT. The detector takes pools of pictures
(composed or rendered; `training.detector.data`, `training.sim_pool`); ``--model embedder`` takes the ``crops`` folders of
rendered pools. Both precisions are measured on pictures that were not trained on: ``int8`` with OpenVINO, where it is used, the
other with ONNX Runtime, which computes the same file that TensorRT is given. Only a variant that loses at most ``--most-lost``,
agrees with the float network on the golden pictures (`shelfscan.evaluation.backends`) and, on OpenVINO, is faster is put beside
the weights, into the manifest and into the card; one of before is taken away otherwise, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Generic, TypeVar

import cv2
import numpy as np

from shelfscan.adapters._onnx import open_session
from shelfscan.adapters._openvino import open_model
from shelfscan.adapters._pack_embedder import BATCH, PackEmbedder, prepare
from shelfscan.adapters._shelf_detector import ShelfDetector
from shelfscan.adapters.detect_onnx import OnnxDetector
from shelfscan.adapters.detect_openvino import OpenvinoDetector
from shelfscan.adapters.embed_onnx import OnnxEmbedder
from shelfscan.adapters.embed_openvino import OpenvinoEmbedder
from shelfscan.adapters.models import Chosen, entry_path, file_sha256, model_entry
from shelfscan.evaluation.backends import (
    LEAST_MATCHED,
    SCORE_TOLERANCE,
    Agreement,
    compare_detectors,
    compare_embedders,
    golden_crops,
    golden_pictures,
)
from shelfscan.model.detections import DetectionClass
from shelfscan.perception import decode
from shelfscan.runfolder import write_atomic
from training.detector.data import load, pictures
from training.embedder.data import SIDE
from training.embedder.evaluate import rank1
from training.evaluate import match, metrics
from training.manifest import SECTION, read_models, with_section, write_models
from training.qdq import SYMMETRIC, UNSIGNED, Feed, Feeds, Make, quantise

#: Losing at most this much (`Network.gated`) is losing nothing.
MOST_LOST = 0.005
SIZE = (736, 1280)
Item = TypeVar("Item")
Values = dict[str, float]


@dataclass(frozen=True)
class Network(Generic[Item]):
    """What differs between the two networks.

    ``gated``: measures that must not be lost; of the detector's, coarse numbers move edges, which AP50 forgives and AP75 does
    not. ``items``: at most so many to calibrate or measure on, evenly over the pools. ``measured``: of a folder of models.
    ``agreement``: of its int8 variant with its float file, on the golden pictures. ``float_first``: how many convolutions from
    the input on stay in float, tried in turn. ``percentile``: `training.qdq.PERCENTILE`.
    """

    name: str
    gated: tuple[str, ...]
    items: Callable[[list[Path], int], list[Item]]
    feed: Callable[[Item], Feed]
    measured: Callable[[Path, bool, Chosen, list[Item]], Values]
    agreement: Callable[[Path, bool], Agreement]
    timed: Feed
    size: str
    float_first: tuple[int, ...]
    percentile: float


def spread(files: list[Item], most: int) -> list[Item]:
    """At most so many, evenly over the list."""
    return files if len(files) <= most else [files[int(i)] for i in np.linspace(0, len(files) - 1, most)]


def shelf_pictures(folders: list[Path], most: int) -> list[Path]:
    """Pictures of pools, from each alike."""
    return [f for folder in folders for f in spread(pictures([folder]), most // len(folders))]


def shelf_feed(file: Path) -> Feed:
    """A picture as `shelfscan.adapters._shelf_detector` feeds it."""
    picture = np.ascontiguousarray(cv2.imread(str(file))[..., ::-1])
    return {"image": decode.letterbox(picture, decode.input_scale(*picture.shape[:2], None, 1296))[0]}


def shelf_measured(models: Path, openvino: bool, kind: Chosen, pool: list[Path]) -> Values:
    """AP50 a class on labelled pictures, AP75 of products, and the mean error of their count at the model's own threshold."""
    detector: ShelfDetector = (OpenvinoDetector if openvino else OnnxDetector)(
        threshold=0.02, models=models, precision="fp32" if kind == "fp32" else "int8"
    )
    runs = [(s, detector.detect(np.ascontiguousarray(s.picture))) for s in map(load, pool)]
    least = model_entry("detector", models).thresholds
    matched = {c: match(runs, int(c), least[c.name]) for c in DetectionClass}
    out = {c.name: metrics(m, least[c.name])["ap50"] for c, m in matched.items() if m.truths}
    strict = match(runs, int(DetectionClass.PRODUCT), least["PRODUCT"], at=0.75)
    out["PRODUCT_AP75"] = metrics(strict, least["PRODUCT"])["ap50"]
    out["PRODUCT_COUNT_MAE"] = metrics(matched[DetectionClass.PRODUCT], least["PRODUCT"])["count_mae"]
    return out


def shelf_agreement(models: Path, openvino: bool) -> Agreement:
    """Box by box."""
    one = OnnxDetector(models=models, precision="fp32")
    other: ShelfDetector = (OpenvinoDetector if openvino else OnnxDetector)(models=models, precision="int8")
    return compare_detectors(one, other, golden_pictures())


def crop_files(folders: list[Path], most: int) -> list[Path]:
    """Crops of rendered pools, from each alike: shelf and gallery views in turn."""
    out = []
    for folder in folders:
        index = folder / "index.csv"
        if index.is_file():
            out += spread([folder / r["file"] for r in csv.DictReader(index.open())], most // len(folders))
    return out


def crop_feed(file: Path) -> Feed:
    """One crop as `shelfscan.adapters._pack_embedder` feeds it."""
    return {"crops": prepare([np.ascontiguousarray(cv2.imread(str(file))[..., ::-1])], SIDE)}


def crop_measured(models: Path, openvino: bool, kind: Chosen, pool: list[Path]) -> Values:
    """First names right on all crops of the folders that ``pool`` is of."""
    embedder = (OpenvinoEmbedder if openvino else OnnxEmbedder)(models=models, precision="fp32" if kind == "fp32" else "int8")
    found = [rank1(embedder, folder) for folder in sorted({f.parent for f in pool})]
    return {k: round(float(np.mean([f[k] for f in found])), 4) for k in ("rank1_slack_0.0", "rank1_slack_0.05")}


def crop_agreement(models: Path, openvino: bool) -> Agreement:
    """Likenesses of the products that the shipped detector finds."""
    one = OnnxEmbedder(models=models, precision="fp32")
    other: PackEmbedder = (OpenvinoEmbedder if openvino else OnnxEmbedder)(models=models, precision="int8")
    return compare_embedders(one, other, golden_crops(OnnxDetector(precision="fp32"), golden_pictures()))


DETECTOR: Network[Path] = Network(
    "detector", ("PRODUCT", "PRODUCT_AP75", "PRICE_TAG"), shelf_pictures, shelf_feed, shelf_measured, shelf_agreement,
    {"image": np.random.default_rng(0).random((1, 3, *SIZE), np.float32)}, f"{SIZE[1]}x{SIZE[0]}",
    (1, 3, 8, 15), 99.9999,
)  # fmt: skip
EMBEDDER: Network[Path] = Network(
    "embedder", ("rank1_slack_0.0", "rank1_slack_0.05"), crop_files, crop_feed, crop_measured, crop_agreement,
    {"crops": np.random.default_rng(0).random((BATCH, 3, SIDE, SIDE), np.float32)}, f"{BATCH} crops", (1, 3), 99.9995,
)  # fmt: skip


def timings(files: dict[Chosen, Path], feed: Feed, repeats: int) -> Values:
    """ms of one run by backend and precision, 2 threads: medians of runs that take turns.

    Other work on the machine makes all of them worse, but none more than the others.
    """
    runs: dict[str, Callable[[], object]] = {}
    for kind, path in files.items():
        session = open_session(path, 2)
        runs[f"onnxruntime {kind}"] = lambda s=session: s.run(None, feed)  # type: ignore[misc]
        for hint in ("fp32", "bf16") if kind == "fp32" else ("fp32",):
            request = open_model(path, 2, hint).create_infer_request()
            runs[f"openvino {kind if hint == 'fp32' else hint}"] = lambda r=request: r.infer(feed)  # type: ignore[misc]
    times: dict[str, list[float]] = {name: [] for name in runs}
    for n in range(repeats + 3):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if n >= 3:  # the first ones still allocate
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: round(float(np.median(t)), 2) for name, t in sorted(times.items())}


@dataclass(frozen=True)
class Tried:
    """A variant that was made and measured. ``lost``: the most of what must not be lost; ``float_first``: see `quantise`."""

    make: Make
    data: bytes
    values: dict[str, Values]
    lost: float
    good: bool
    float_first: int


def tried(network: Network[Item], make: Make, models: Path, calibration: list[Item], probe: list[Item], args: Any) -> Tried:
    """A variant with as few convolutions in float as keep what must be kept; the last one tried when none does."""
    entry = model_entry(network.name, models)
    source = entry_path(entry, models)
    for float_first in args.float_first or network.float_first:
        # In a folder of its own: what is not good enough never lies where a run could take it.
        with tempfile.TemporaryDirectory() as scratch:
            trial = Path(scratch)
            made = trial / file_name(network.name, make)
            quantise(source, made, make, Feeds(calibration, network.feed), float_first, network.percentile)
            (trial / entry.file).write_bytes(source.read_bytes())
            # Asked of this folder as int8, whichever of the two it is: only one of them is in it.
            variant = {"file": made.name, "bytes": made.stat().st_size, "sha256": file_sha256(made), "made_from": entry.sha256}
            write_models(trial, [{**entry.to_json(), "variants": {"int8": variant}}])
            values, lost, good = measured(network, make is UNSIGNED, trial, source, made, probe, args)
            found = Tried(make, made.read_bytes(), values, lost, good, float_first)
        said = ", ".join(f"{k} {v:g}" for k, v in values["golden"].items())
        print(f"{made.name}, {float_first} convolutions in float: lost {lost:.4f}, {said}", file=sys.stderr)
        if good:
            break
    return found


def measured(
    network: Network[Item], on_openvino: bool, trial: Path, source: Path, made: Path, probe: list[Item], args: Any
) -> tuple[dict[str, Values], float, bool]:
    """What a trial folder's two files give, the most that is lost, and whether it may be used."""
    values = {kind: network.measured(trial, on_openvino, kind, probe) for kind in ("fp32", "int8")}
    lost = max(values["fp32"][k] - values["int8"][k] for k in network.gated if k in values["fp32"])
    # Both run the file for processors; it must be right on each.
    agreed = [network.agreement(trial, openvino) for openvino in ((True, False) if on_openvino else (False,))]
    matched, apart = min(a.matched for a in agreed), max(a.score_worst for a in agreed)
    values["golden"] = {"matched": round(matched, 4), "score_worst": round(apart, 4)}
    good = lost <= args.most_lost and matched >= args.least_matched and apart <= args.most_apart
    if on_openvino and good:
        values["ms"] = timings({"fp32": source, "int8": made}, network.timed, args.repeats)
        good = values["ms"]["openvino int8"] < values["ms"]["openvino fp32"]
    return values, lost, good


def file_name(name: str, make: Make) -> str:
    """Of a variant, beside the weights."""
    return f"{name}.{make.kind}.onnx"


def section(network: Network[Any], command: str, made: list[Tried], data: str) -> str:
    """What the card says of the variants, Markdown; empty when there are none."""
    if not made:
        return ""
    words = {
        "int8": "is used by `precision: auto` on OpenVINO; ONNX Runtime takes the float file",
        "int8_symmetric": "is for TensorRT (`precision: int8`)",
    }
    text = f"{SECTION}\n\n" + "; ".join(f"`{file_name(network.name, t.make)}` {words[t.make.kind]}" for t in made)
    text += f""". Made by

    {command}

as explicit QDQ, the first convolutions and all after the last hidden ones in float (`training/qdq.py`). Measured on {data},
which were not trained on: int8 with OpenVINO, int8_symmetric with ONNX Runtime, which computes what TensorRT is given.
"""
    for t in made:
        a, b = t.values["fp32"], t.values["int8"]
        text += f"\n| {t.float_first} convolutions in float | fp32 | {t.make.kind} |\n|---|---|---|\n"
        text += "".join(f"| {k} | {a[k]:g} | {b[k]:g} |\n" for k in a)
        text += "".join(f"| golden pictures: {k} | | {v:g} |\n" for k, v in t.values["golden"].items())
        if "ms" in t.values:
            text += f"\n| 2 threads, {network.size}, median of runs in turn | ms |\n|---|---|\n"
            text += "".join(f"| {k} | {v:.1f} |\n" for k, v in t.values["ms"].items())
    return text


def written(folder: Path) -> str:
    """A pool as a command in the manifest names it: where it lies on this machine is of no use elsewhere."""
    if not folder.is_absolute():
        return folder.as_posix()
    return f"pools/{folder.parent.name}/crops" if folder.name == "crops" else f"pools/{folder.name}"


def main() -> None:
    p = argparse.ArgumentParser(description="Make a network's int8 variants, measure them, put them into the manifest.")
    p.add_argument("--model", choices=("detector", "embedder"), default="detector")
    p.add_argument("--models", type=Path, default=Path("models"))
    p.add_argument("--calibrate", type=Path, nargs="+", required=True, help="pools; of the embedder, their crops folders")
    p.add_argument("--measure", type=Path, nargs="+", required=True, help="pools that were not trained on")
    p.add_argument("--pictures", type=int, default=64, help="how many to calibrate on")
    p.add_argument("--most", type=int, default=60, help="how many to measure on; the embedder is measured on all")
    p.add_argument("--most-lost", type=float, default=MOST_LOST, help="what may be lost of the measures that are gated")
    p.add_argument("--least-matched", type=float, default=LEAST_MATCHED, help="of boxes or crops of the golden pictures")
    p.add_argument("--most-apart", type=float, default=SCORE_TOLERANCE, help="of their scores or likenesses")
    p.add_argument("--float-first", type=int, nargs="+", help="convolutions that stay in float, tried in turn until it is good")
    p.add_argument("--repeats", type=int, default=40, help="of each timing")
    args = p.parse_args()
    network = DETECTOR if args.model == "detector" else EMBEDDER
    calibration, probe = network.items(args.calibrate, args.pictures), network.items(args.measure, args.most)
    for folders, files in ((args.calibrate, calibration), (args.measure, probe)):
        if not files:
            raise SystemExit(f"{', '.join(map(str, folders))}: no pictures; expected pools of training.detector.data")
    command = "python -m training.quantise" + (" --model embedder" if network is EMBEDDER else "")
    command += f" --calibrate {' '.join(map(written, args.calibrate))} --measure {' '.join(map(written, args.measure))}"
    for option in ("pictures", "most", "most_lost", "least_matched", "most_apart"):
        if getattr(args, option) != p.get_default(option):
            command += f" --{option.replace('_', '-')} {getattr(args, option)}"
    count = f"{len(probe)} pictures" if network is DETECTOR else "the crops"
    data = f"{count} of {', '.join(map(written, args.measure))}"
    both = [tried(network, make, args.models, calibration, probe, args) for make in (UNSIGNED, SYMMETRIC)]
    good = [t for t in both if t.good]
    models = read_models(args.models)
    mine = next(m for m in models if m["name"] == network.name)
    mine["variants"] = {}
    for t in both:
        file = args.models / file_name(network.name, t.make)
        if not t.good:
            continue
        write_atomic(file, t.data)
        metric = {"command": command, "date": date.today().isoformat(), "values": t.values}
        metric["data"] = f"{data}, {'OpenVINO' if t.make is UNSIGNED else 'ONNX Runtime'}"
        mine["variants"][t.make.kind] = {
            "file": file.name, "bytes": len(t.data), "sha256": file_sha256(file), "made_from": mine["sha256"],
            "command": command, "metrics": {"comparison": metric},
        }  # fmt: skip
    write_models(args.models, models)
    card = args.models / str(mine.get("card", ""))
    write_atomic(card, with_section(card.read_text(encoding="utf-8"), section(network, command, good, data)).encode())
    for t in both:
        if not t.good:
            (args.models / file_name(network.name, t.make)).unlink(missing_ok=True)
    said = {
        t.make.kind: {"measured": t.values, "lost": round(t.lost, 4), "float_first": t.float_first, "put into use": t.good}
        for t in both
    }
    print(json.dumps({**said, "put into use": len(good) == len(both)}, indent=1))
    raise SystemExit(0 if len(good) == len(both) else 1)


if __name__ == "__main__":
    main()
