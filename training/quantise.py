"""Make the int8 variants of the shipped networks: ``python -m training.quantise detector|embedder --calibrate DIR …``.

Explicit QDQ with symmetric activations, QInt8 weights a channel and float biases: what ONNX Runtime and OpenVINO run fast and
TensorRT accepts. Calibrated on pictures of pools (composed or rendered; `training.detector.data`, `training.sim_pool`) alone.
The last convolutions of the detector's heads and all after them stay in float: their outputs are distances and logits, where
one step of an int8 scale is many pixels. The result is measured against the float network on ``--measure``, written into the
manifest as a variant, and made the default of a backend only when it loses at most
`MOST_LOST` and is faster there.
"""

from __future__ import annotations

import argparse
import hashlib
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

from shelfscan.adapters._onnx import open_session
from shelfscan.adapters._openvino import open_model
from shelfscan.adapters._pack_embedder import prepare
from shelfscan.adapters.models import model_entry
from shelfscan.adapters.pictures import read_picture
from shelfscan.model.detections import DetectionClass
from shelfscan.perception import decode
from training.detector.data import load, pictures

#: A variant is the default when it loses at most this much (AP50 and AP75 of products; top-1 of the embedder).
MOST_LOST = 0.005
#: ... which so few crops of the embedder can't show: one of 22 is 4.5 points.
LEAST_CROPS = 1000
#: What is quantised; the rest (resizing, pooling, softplus, sigmoid, the norm) stays as it is.
OPS = ["Conv", "Add", "Concat", "MaxPool", "Gemm", "Resize"]
METHODS = {"minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile}
SIZE = (736, 1280)

Feed = dict[str, NDArray[np.float32]]


class Pictures(CalibrationDataReader):  # type: ignore[misc] # onnxruntime has no types
    """Feeds one after the other."""

    def __init__(self, feeds: Iterator[Feed]) -> None:
        self._feeds = feeds

    def get_next(self) -> Feed | None:
        """The next feed, None at the end."""
        return next(self._feeds, None)


def detector_feeds(files: list[Path]) -> Iterator[Feed]:
    """Pictures as `shelfscan.adapters._shelf_detector` feeds them."""
    for file in files:
        picture = np.ascontiguousarray(cv2.imread(str(file))[..., ::-1])
        yield {"image": decode.letterbox(picture, decode.input_scale(*picture.shape[:2], None, 1296))[0]}


def embedder_feeds(files: list[Path], side: int, batch: int = 16) -> Iterator[Feed]:
    """The labelled products of pictures of pools, as `shelfscan.adapters._pack_embedder` feeds crops."""
    for file in files:
        sample = load(file)
        boxes = sample.boxes[sample.classes == DetectionClass.PRODUCT].astype(int)[:batch]
        crops = [np.ascontiguousarray(sample.picture[y0:y1, x0:x1]) for x0, y0, x1, y1 in boxes]
        crops = [c for c in crops if min(c.shape[:2], default=0) > 8]
        if crops:
            yield {"crops": prepare(crops, side)}


def float_nodes(model: onnx.ModelProto) -> list[str]:
    """Nodes after the last hidden layer of each branch: the convolutions that no ReLU follows, and what comes behind them."""
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)

    def hidden(name: str) -> bool:
        """Whether a ReLU or another convolution still comes."""
        return any(u.op_type in ("Relu", "Conv", "Gemm") or hidden(u.output[0]) for u in users.get(name, []))

    return [n.name for n in model.graph.node if n.op_type not in ("Constant", "Shape") and not hidden(n.output[0])]


def quantise(source: Path, out: Path, feeds: Iterator[Feed], method: str) -> None:
    """Write the QDQ int8 form of ``source`` to ``out``."""
    with tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch) / "plain.onnx"
        from onnxruntime.quantization.shape_inference import quant_pre_process

        quant_pre_process(str(source), str(plain), skip_symbolic_shape=True)
        quantize_static(
            str(plain),
            str(out),
            Pictures(feeds),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=OPS,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=float_nodes(onnx.load(str(plain))),
            calibrate_method=METHODS[method],
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "CalibPercentile": 99.999,
            },
        )


def milliseconds(run: Callable[[], object], repeats: int) -> float:
    """The median of ``repeats`` runs, after three that count nothing. Other work on the machine makes it worse."""
    for _ in range(3):
        run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return round(1e3 * float(np.median(times)), 2)


def timings(files: dict[str, Path], feed: Feed, repeats: int) -> dict[str, float]:
    """ms of one feed by backend and precision, 2 threads."""
    out: dict[str, float] = {}
    for precision, path in files.items():
        session = open_session(path, 2)
        out[f"onnxruntime {precision}"] = milliseconds(lambda s=session: s.run(None, feed), repeats)  # type: ignore[misc]
    for precision, path in files.items():
        for hint in ("fp32", "bf16") if precision == "fp32" else ("fp32",):
            request = open_model(path, 2, hint).create_infer_request()
            name = f"openvino {precision if hint == 'fp32' else hint}"
            out[name] = milliseconds(lambda r=request: r.infer(feed), repeats)  # type: ignore[misc]
    return out


def detector_ap50(name: str, precision: str, models: Path, pool: list[Path]) -> dict[str, float]:
    """AP50 a class on labelled pictures of a pool, and AP75 of products: coarse numbers move edges, which AP50 forgives."""
    from shelfscan.adapters.detect_onnx import OnnxDetector
    from training.evaluate import match, metrics

    detector = OnnxDetector(name, threshold=0.02, models=models, precision=precision)  # type: ignore[arg-type]
    runs = [(s, detector.detect(np.ascontiguousarray(s.picture))) for s in map(load, pool)]
    matched = {c: match(runs, int(c), 0.5) for c in DetectionClass}
    out = {c.name: metrics(m, 0.5)["ap50"] for c, m in matched.items() if m.truths}
    return {**out, "PRODUCT_AP75": metrics(match(runs, int(DetectionClass.PRODUCT), 0.5, at=0.75), 0.5)["ap50"]}


def embedder_top1(name: str, precision: str, models: Path, galleries: list[Path]) -> dict[str, float]:
    """Top-1 of the pictures of each gallery's <sku>/ folders against the first picture of each of its SKUs."""
    from shelfscan.adapters.embed_onnx import OnnxEmbedder

    embedder = OnnxEmbedder(name, models=models, precision=precision)  # type: ignore[arg-type]
    right = crops = 0
    for gallery in galleries:
        files = crop_files(gallery)
        owner = np.array([i for i, paths in enumerate(files.values()) for _ in paths[1:]])
        references = embedder.embed([read_picture(paths[0]) for paths in files.values()])
        probes = embedder.embed([read_picture(p) for paths in files.values() for p in paths[1:]])
        right += int(((probes @ references.T).argmax(1) == owner).sum())
        crops += len(owner)
    return {"top1": round(right / max(crops, 1), 4), "crops": crops}


def crop_files(folder: Path) -> dict[str, list[Path]]:
    """Crops by product: ``folder/<product>/*``."""
    folders = [d for d in sorted(folder.iterdir()) if d.is_dir()]
    found = {d.name: sorted(p for p in d.iterdir() if p.suffix in (".jpg", ".png")) for d in folders}
    return {k: v for k, v in found.items() if len(v) > 1}


def spread(files: list[Path], most: int) -> list[Path]:
    """At most so many, evenly over the list."""
    return files if len(files) <= most else [files[int(i)] for i in np.linspace(0, len(files) - 1, most)]


def main() -> None:
    p = argparse.ArgumentParser(description="Make the int8 variant of a network, measure it, put it into the manifest.")
    p.add_argument("name", choices=["detector", "embedder"])
    p.add_argument("--models", type=Path, default=Path("models"))
    p.add_argument("--calibrate", type=Path, nargs="+", required=True, help="pools")
    p.add_argument("--measure", type=Path, nargs="+", required=True, help="a pool, or galleries (embedder), not trained on")
    p.add_argument("--pictures", type=int, default=48, help="how many to calibrate on")
    p.add_argument("--most", type=int, default=60, help="how many to measure on")
    p.add_argument("--method", choices=sorted(METHODS), default="minmax", help="how ranges are taken from what was seen")
    p.add_argument("--repeats", type=int, default=40)
    args = p.parse_args()
    manifest = args.models / "manifest.json"
    entry = model_entry(args.name, args.models)
    source, out = args.models / entry.file, args.models / f"{args.name}.int8.onnx"
    calibration = [f for folder in args.calibrate for f in spread(pictures([folder]), args.pictures // len(args.calibrate))]
    if args.name == "detector":
        feeds = detector_feeds(calibration)
        probe: Feed = {"image": np.zeros((1, 3, *SIZE), np.float32)}
    else:
        feeds = embedder_feeds(calibration, 128)
        probe = {"crops": np.zeros((32, 3, 128, 128), np.float32)}
    quantise(source, out, feeds, args.method)
    data = json.loads(manifest.read_text())
    mine = next(m for m in data["models"] if m["name"] == args.name)
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    command = f"python -m training.quantise {args.name} --calibrate {' '.join(map(written, args.calibrate))}"
    command += f" --measure {' '.join(map(written, args.measure))}"
    command += f" --pictures {args.pictures} --most {args.most} --method {args.method}"
    variant: dict[str, Any] = {
        "file": out.name,
        "bytes": out.stat().st_size,
        "sha256": digest,
        "made_from": mine["sha256"],
        "command": command,
    }
    mine.setdefault("variants", {})["int8"] = variant
    save(manifest, data)
    measured: dict[str, dict[str, float]] = {}
    for precision in ("fp32", "int8"):
        if args.name == "detector":
            measured[precision] = detector_ap50("detector", precision, args.models, spread(pictures(args.measure), args.most))
        else:
            measured[precision] = embedder_top1("embedder", precision, args.models, args.measure)
    keys = ("PRODUCT", "PRODUCT_AP75") if args.name == "detector" else ("top1",)
    lost = max(measured["fp32"][key] - measured["int8"][key] for key in keys)
    ms = timings({"fp32": source, "int8": out}, probe, args.repeats)
    enough = args.name == "detector" or measured["fp32"]["crops"] >= LEAST_CROPS
    mine["default_precision"] = {
        backend: "int8" if enough and lost <= MOST_LOST and ms[f"{backend} int8"] < ms[f"{backend} fp32"] else "fp32"
        for backend in ("onnxruntime", "openvino")
    }
    variant["metrics"] = {
        "comparison": {"command": command, "date": date.today().isoformat(), "values": {**measured, "ms": ms}},
    }
    save(manifest, data)
    print(json.dumps({"measured": measured, "lost": round(lost, 4), "ms": ms, "default": mine["default_precision"]}, indent=1))


def written(folder: Path) -> str:
    """A folder as a command in the manifest names it: where it lies on this machine is of no use elsewhere."""
    if not folder.is_absolute():
        return folder.as_posix()
    return f"{folder.parent.name}/{folder.name}" if folder.name == "gallery" else f"pools/{folder.name}"


def save(path: Path, data: dict[str, Any]) -> None:
    """Write the manifest as `training.manifest` does."""
    path.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
