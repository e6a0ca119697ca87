"""Make the int8 variant of the shipped detector: ``python -m training.quantise --calibrate POOL … --measure POOL``.

Explicit QDQ of what goes into the convolutions: unsigned activations, signed weights a channel, float biases. What comes out of
them is not quantised, so that each is computed together with its ReLU. (With *signed* activations OpenVINO 2026.4 computes
something else than ONNX Runtime: the detector then loses 14 points of AP75 there, and none in ONNX Runtime.) Calibrated on
pictures of pools (composed or rendered; `training.detector.data`, `training.sim_pool`) alone. The last convolutions of the
heads and all after them stay in float: their outputs are distances and logits, where one step of an int8 scale is many pixels.

Both precisions are measured with OpenVINO, where int8 is used, on pictures that were not trained on. Only a variant that loses
at most ``--most-lost`` and is faster there is put beside the weights, into the manifest and into the card; otherwise one of
before is taken away, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from shelfscan.adapters._onnx import open_session
from shelfscan.adapters._openvino import open_model
from shelfscan.adapters.detect_openvino import OpenvinoDetector
from shelfscan.adapters.models import Chosen, entry_path, file_sha256, model_entry
from shelfscan.model.detections import DetectionClass
from shelfscan.perception import decode
from shelfscan.runfolder import write_atomic
from training.detector.data import load, pictures
from training.evaluate import match, metrics
from training.manifest import SECTION, read_models, with_section, write_models

NAME = "detector"
FILE = f"{NAME}.int8.onnx"
#: Losing at most this much (`GATED`) is losing nothing.
MOST_LOST = 0.005
#: What must not be lost: coarse numbers move edges, which AP50 forgives and AP75 does not.
GATED = ("PRODUCT", "PRODUCT_AP75", "PRICE_TAG")
SIZE = (736, 1280)

Feed = dict[str, NDArray[np.float32]]


class Pictures(CalibrationDataReader):  # type: ignore[misc] # onnxruntime has no types
    """Feeds one after the other."""

    def __init__(self, feeds: Iterator[Feed]) -> None:
        self._feeds = feeds

    def get_next(self) -> Feed | None:
        """The next feed, None at the end."""
        return next(self._feeds, None)


def feeds(files: list[Path]) -> Iterator[Feed]:
    """Pictures as `shelfscan.adapters._shelf_detector` feeds them."""
    for file in files:
        picture = np.ascontiguousarray(cv2.imread(str(file))[..., ::-1])
        yield {"image": decode.letterbox(picture, decode.input_scale(*picture.shape[:2], None, 1296))[0]}


def float_nodes(model: onnx.ModelProto) -> list[str]:
    """Nodes after the last hidden layer of each branch: the convolutions that no ReLU follows, and what comes behind them."""
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)

    def hidden(name: str) -> bool:
        """Whether a ReLU or another convolution still comes."""
        return any(u.op_type in ("Relu", "Conv") or hidden(u.output[0]) for u in users.get(name, []))

    return [n.name for n in model.graph.node if n.op_type not in ("Constant", "Shape") and not hidden(n.output[0])]


def quantise(source: Path, out: Path, calibration: Iterator[Feed]) -> None:
    """Write the QDQ int8 form of ``source`` to ``out``."""
    plain = out.with_suffix(".plain.onnx")
    quant_pre_process(str(source), str(plain), skip_symbolic_shape=True)
    quantize_static(
        str(plain),
        str(out),
        Pictures(calibration),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=float_nodes(onnx.load(str(plain))),
        calibrate_method=CalibrationMethod.MinMax,
        extra_options={
            "ActivationSymmetric": False,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": ["Conv"],
        },
    )


def timings(files: dict[Chosen, Path], repeats: int) -> dict[str, float]:
    """ms of one picture of `SIZE` by backend and precision, 2 threads: medians of runs that take turns.

    Other work on the machine makes all of them worse, but none more than the others.
    """
    feed: Feed = {"image": np.random.default_rng(0).random((1, 3, *SIZE), np.float32)}
    runs: dict[str, Callable[[], object]] = {}
    for precision, path in files.items():
        session = open_session(path, 2)
        runs[f"onnxruntime {precision}"] = lambda s=session: s.run(None, feed)  # type: ignore[misc]
        for hint in ("fp32", "bf16") if precision == "fp32" else ("fp32",):
            request = open_model(path, 2, hint).create_infer_request()
            runs[f"openvino {precision if hint == 'fp32' else hint}"] = lambda r=request: r.infer(feed)  # type: ignore[misc]
    times: dict[str, list[float]] = {name: [] for name in runs}
    for n in range(repeats + 3):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if n >= 3:  # the first ones still allocate
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: round(float(np.median(t)), 2) for name, t in sorted(times.items())}


def measured(models: Path, precision: Chosen, pool: list[Path]) -> dict[str, float]:
    """AP50 a class on labelled pictures, AP75 of products, and the mean error of their count at the model's own threshold."""
    detector = OpenvinoDetector(NAME, threshold=0.02, models=models, precision=precision)
    runs = [(s, detector.detect(np.ascontiguousarray(s.picture))) for s in map(load, pool)]
    least = model_entry(NAME, models).thresholds
    matched = {c: match(runs, int(c), least[c.name]) for c in DetectionClass}
    out = {c.name: metrics(m, least[c.name])["ap50"] for c, m in matched.items() if m.truths}
    strict = match(runs, int(DetectionClass.PRODUCT), least["PRODUCT"], at=0.75)
    out["PRODUCT_AP75"] = metrics(strict, least["PRODUCT"])["ap50"]
    out["PRODUCT_COUNT_MAE"] = metrics(matched[DetectionClass.PRODUCT], least["PRODUCT"])["count_mae"]
    return out


def spread(files: list[Path], most: int) -> list[Path]:
    """At most so many, evenly over the list."""
    return files if len(files) <= most else [files[int(i)] for i in np.linspace(0, len(files) - 1, most)]


def section(command: str, values: dict[str, dict[str, float]], count: int) -> str:
    """What the card says of the variant, Markdown."""
    a, b, ms = values["fp32"], values["int8"], values["ms"]
    rows = "\n".join(f"| {k} | {a[k]:g} | {b[k]:g} |" for k in a)
    times = "\n".join(f"| {k} | {v:.1f} |" for k, v in ms.items())
    return f"""{SECTION}

`{FILE}` is used by `precision: auto` on OpenVINO; ONNX Runtime takes the float file. Made by

    {command}

as explicit QDQ, unsigned activations, the heads' last convolutions in float, calibrated on composed and simulated pictures
alone. Measured with OpenVINO on {count} pictures that were not trained on.

| AP50 (AP75 where said) | fp32 | int8 |
|---|---|---|
{rows}

| 2 threads, {SIZE[1]}x{SIZE[0]}, median of runs in turn | ms |
|---|---|
{times}
"""


def written(folder: Path) -> str:
    """A pool as a command in the manifest names it: where it lies on this machine is of no use elsewhere."""
    return f"pools/{folder.name}" if folder.is_absolute() else folder.as_posix()


def main() -> None:
    p = argparse.ArgumentParser(description="Make the detector's int8 variant, measure it, put it into the manifest.")
    p.add_argument("--models", type=Path, default=Path("models"))
    p.add_argument("--calibrate", type=Path, nargs="+", required=True, help="pools")
    p.add_argument("--measure", type=Path, nargs="+", required=True, help="pools that were not trained on")
    p.add_argument("--pictures", type=int, default=48, help="how many to calibrate on")
    p.add_argument("--most", type=int, default=60, help="how many to measure on")
    p.add_argument("--most-lost", type=float, default=MOST_LOST, help=f"what may be lost of {', '.join(GATED)}")
    p.add_argument("--repeats", type=int, default=40, help="of each timing")
    args = p.parse_args()
    calibration = [f for folder in args.calibrate for f in spread(pictures([folder]), args.pictures // len(args.calibrate))]
    probe = spread(pictures(args.measure), args.most)
    for folders, files in ((args.calibrate, calibration), (args.measure, probe)):
        if not files:
            raise SystemExit(f"{', '.join(map(str, folders))}: no pictures; expected pools of training.detector.data")
    entry = model_entry(NAME, args.models)
    source = entry_path(entry, args.models)
    command = f"python -m training.quantise --calibrate {' '.join(map(written, args.calibrate))}"
    command += f" --measure {' '.join(map(written, args.measure))}"
    for option in ("pictures", "most", "most_lost"):
        if getattr(args, option) != p.get_default(option):
            command += f" --{option.replace('_', '-')} {getattr(args, option)}"
    with tempfile.TemporaryDirectory() as scratch:
        # Measured in a folder of its own: what is not good enough never lies where a run could take it.
        trial = Path(scratch)
        made = trial / FILE
        quantise(source, made, feeds(calibration))
        (trial / entry.file).write_bytes(source.read_bytes())
        variant: dict[str, Any] = {
            "file": FILE,
            "bytes": made.stat().st_size,
            "sha256": file_sha256(made),
            "made_from": entry.sha256,
            "command": command,
        }
        write_models(trial, [{**entry.to_json(), "variants": {"int8": variant}}])
        values = {precision: measured(trial, precision, probe) for precision in ("fp32", "int8")}
        values["ms"] = timings({"fp32": source, "int8": made}, args.repeats)
        lost = max(values["fp32"][k] - values["int8"][k] for k in GATED if k in values["fp32"])
        good = lost <= args.most_lost and values["ms"]["openvino int8"] < values["ms"]["openvino fp32"]
        comparison = {"command": command, "date": date.today().isoformat(), "values": values}
        comparison["data"] = f"{len(probe)} pictures of {', '.join(map(written, args.measure))}, OpenVINO"
        variant["metrics"] = {"comparison": comparison}
        if good:
            write_atomic(args.models / FILE, made.read_bytes())
    models = read_models(args.models)
    mine = next(m for m in models if m["name"] == NAME)
    mine["variants"] = {"int8": variant} if good else {}
    write_models(args.models, models)
    card = args.models / entry.card
    text = section(command, values, len(probe)) if good else ""
    write_atomic(card, with_section(card.read_text(encoding="utf-8"), text).encode())
    if not good:
        (args.models / FILE).unlink(missing_ok=True)
    print(json.dumps({"measured": values, "lost": round(lost, 4), "put into use": good}, indent=1))
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
