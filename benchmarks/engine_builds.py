"""Does NVIDIA's own builder take our networks? ``python -m benchmarks.engine_builds --fetch``.

The full TensorRT libraries cannot be had from a package registry alone. TensorRT-RTX can: it has NVIDIA's ONNX parser and
builder, and builds engines ahead of time on machines without a GPU. Both networks are built in each precision by the very code
that builds engines on a robot (`shelfscan.adapters._tensorrt.build_engine`). Nothing is executed: that needs a GPU, and RTX
engines are for other ones than a robot's.

``--fetch`` puts the two wheels (95 MB, NVIDIA's licence, which pip shows) into ``.cache/``; without it they must be installed.
Exit code 1 when an engine could not be built, 3 when the builder is not to be had.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from training.embedder.data import SIDE
from training.qdq import SYMMETRIC, Feed, Feeds, quantise

from shelfscan.adapters._onnx_typed import fp16_typed
from shelfscan.adapters._pack_embedder import expect_shapes, prepare
from shelfscan.adapters._shelf_detector import check_shapes
from shelfscan.adapters._tensorrt import build_engine
from shelfscan.adapters.detect_onnx import OnnxDetector
from shelfscan.adapters.detect_tensorrt import detector_profile
from shelfscan.adapters.embed_tensorrt import embedder_profile
from shelfscan.adapters.models import entry_path, model_entry
from shelfscan.errors import ShelfscanError
from shelfscan.evaluation.backends import golden_crops, golden_pictures
from shelfscan.paths import ROOT
from shelfscan.perception import decode

VERSION = "1.7.1.116"
WHEELS = (f"tensorrt-rtx-cu13-libs=={VERSION}", f"tensorrt-rtx-cu13-bindings=={VERSION}")
MODULE = "tensorrt_rtx_bindings"
NO_BUILDER = 3
NAMES = ("detector", "embedder")
MAX_SIDE_PX = 1296


def fetch(folder: Path) -> None:
    """Install the wheels into a folder of their own, once. Raises `CalledProcessError` when the registry does not have them."""
    if not (folder / MODULE).is_dir():
        command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*command, "--target", str(folder), *WHEELS], check=True, stdout=sys.stderr)
    sys.path.insert(0, str(folder))


def int8_file(name: str, scratch: Path) -> Path:
    """The shipped variant for TensorRT; where there is none, one calibrated on the golden pictures, good enough to be built."""
    entry = model_entry(name)
    if entry.variant("int8_symmetric") is not None:
        return entry_path(entry, None, "int8_symmetric")
    out = scratch / f"{name}.int8_symmetric.onnx"
    pictures = golden_pictures()
    feeds: list[Feed] = []
    if name == "detector":
        for p in pictures:
            feeds.append({"image": decode.letterbox(p, decode.input_scale(*p.shape[:2], None, MAX_SIDE_PX))[0]})
    else:
        crops = golden_crops(OnnxDetector(threads=1, precision="fp32"), pictures)
        feeds += [{"crops": prepare(crops[n : n + 8], SIDE)} for n in range(0, len(crops), 8)]
    quantise(entry_path(entry), out, SYMMETRIC, Feeds(feeds, lambda feed: feed))
    return out


def built(trt: Any, name: str, precision: str, scratch: Path) -> dict[str, Any]:
    """One engine: sizes and seconds, or the builder's own words."""
    path = entry_path(model_entry(name))
    if precision == "fp16":
        data = fp16_typed(path)
    elif precision == "int8":
        path = int8_file(name, scratch)
        data = path.read_bytes()
    else:
        data = path.read_bytes()
    said: dict[str, Any] = {"model": name, "precision": precision, "file": path.name, "onnx_bytes": len(data)}
    start = time.perf_counter()
    try:
        if name == "detector":
            plan = build_engine(trt, data, path.name, detector_profile(MAX_SIDE_PX), lambda i, o: check_shapes(path, i, o))
        else:
            plan = build_engine(
                trt, data, path.name, embedder_profile(), lambda i, o: expect_shapes(path, i.get("crops"), o.get("embedding"))
            )
    except ShelfscanError as e:
        return {**said, "error": str(e)}
    return {**said, "engine_bytes": len(plan), "seconds": round(time.perf_counter() - start, 2)}


def main() -> int:
    p = argparse.ArgumentParser(description="Build engines of both networks with NVIDIA's builder, without a GPU.")
    p.add_argument("--fetch", action="store_true", help="install the wheels into --folder first")
    p.add_argument("--folder", type=Path, default=ROOT / ".cache" / f"tensorrt-rtx-{VERSION}")
    p.add_argument("--json", action="store_true")
    args = p.parse_args()
    try:
        if args.fetch:
            fetch(args.folder)
        trt = importlib.import_module(MODULE)
    except (ImportError, OSError, subprocess.CalledProcessError) as e:
        print(f"no engine was built: NVIDIA's builder is not to be had here: {e} ({' '.join(WHEELS)})", file=sys.stderr)
        return NO_BUILDER
    with tempfile.TemporaryDirectory() as scratch:
        rows = [built(trt, name, precision, Path(scratch)) for name in NAMES for precision in ("fp32", "fp16", "int8")]
    builder = f"TensorRT-RTX {trt.__version__}"
    if args.json:
        print(json.dumps({"builder": builder, "executed": False, "engines": rows}, indent=1))
    else:
        print(f"| {builder} | file | ONNX | engine | s |\n|---|---|---|---|---|")
        for r in rows:
            sizes = (r["onnx_bytes"] / 1e6, r.get("engine_bytes", np.nan) / 1e6, r.get("seconds", np.nan))
            print(f"| {r['model']} {r['precision']} | {r['file']} | " + " | ".join(f"{s:.2f}" for s in sizes) + " |")
        for r in rows:
            if "error" in r:
                print(f"{r['model']} {r['precision']}: {r['error']}")
        print("Sizes in MB. Built, not executed: that needs a GPU.")
    return 1 if any("error" in r for r in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
