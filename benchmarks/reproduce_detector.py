"""What the shipped detector learnt from labelled photographs, again on a small budget, and whether it comes near:

    git show 6a3ee96:models/detector.onnx > start.onnx
    python -m benchmarks.reproduce_detector --start start.onnx --data DATA --work WORK [--racks DATA/racks]

It begins with weights that were shipped once and had seen no labelled photograph; the command above takes them from the
project's history (their checksum is `START_SHA256`). Composes and renders small pools, trains for ``--minutes`` as the last
stage was trained (labelled photographs, their products replaced by other fronts),
and measures average precision of one look at `SIDE_PX` (long side) on the labelled frames that are never trained on and, with
``--racks``, on those photographs, which are for evaluation only. Exit code 1 when the reproduction lies more than
``--tolerance`` below the shipped weights: on racks when given, else on the held-out frames, which are only two.

All that is made lies in ``--work`` (some 100 MB). Started again with the same folder it goes on where it was: pools that are
there are kept, and so is the training's last minute. Training is not the same to the last digit from run to run (its crops
are drawn by the clock), hence a tolerance.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from training.detector.compose import IGNORE, PRODUCT
from training.detector.real import samples
from training.manifest import write_models

from shelfscan.adapters.detect_onnx import OnnxDetector
from shelfscan.adapters.models import file_sha256, model_entry
from shelfscan.adapters.pictures import read_picture
from shelfscan.errors import BadInput
from shelfscan.evaluation.data import LabelledBox, need_folder, read_coco
from shelfscan.evaluation.detection import coco_measures
from shelfscan.learn.need import need_torch
from shelfscan.model.detections import DetectionClass
from shelfscan.model.imaging import Rgb
from shelfscan.runfolder import write_atomic

START_SHA256 = "ded28db1c627722387c6a2db0a6abd5b5a8c0aae973ee2fc27c14cebbb894191"
#: Long side of the one look that is measured.
SIDE_PX = 1000
#: Boxes below this score no longer change average precision.
SENSITIVE = 0.02

#: Pictures, read one at a time, and their product boxes.
Measured = list[tuple[Callable[[], Rgb], Sequence[LabelledBox]]]


@dataclass(frozen=True)
class Work:
    """Where everything that is made lies."""

    root: Path

    @property
    def warm(self) -> Path:
        return self.root / "warm.pt"

    @property
    def trained(self) -> Path:
        return self.root / "trained.pt"

    def pool(self, name: str) -> Path:
        return self.root / name

    def models(self, name: str) -> Path:
        """A folder with a manifest and a detector."""
        return self.root / f"models-{name}"


def run(module: str, *args: object) -> None:
    """A step of the training as a process of its own; its errors are shown and end this."""
    words = [str(a) for a in args]
    print(f"$ python -m {shlex.join([module, *words])}", flush=True)
    done = subprocess.run([sys.executable, "-m", module, *words], check=False)
    if done.returncode:
        raise SystemExit(f"reproduce_detector: {module}: exit {done.returncode}")


def once(made: Path, make: Callable[[Path], None]) -> None:
    """Make a file or folder unless it is there; what a stopped run left half done is begun anew."""
    if made.exists():
        print(f"{made}: kept", flush=True)
        return
    part = made.with_name(f"part-{made.name}")
    if part.is_dir():
        shutil.rmtree(part)
    make(part)
    part.rename(made)


def make_pools(work: Work, args: argparse.Namespace) -> None:
    """Composed shelves, rendered stores and labelled photographs."""
    # Pictures that are there are kept one by one, and the folder grows to the count that is asked for.
    run("training.detector.data", "--out", work.pool("rich"), "--count", args.count, "--data", args.data)
    once(
        work.pool("sim"),
        lambda out: run("training.sim_pool", "--out", out, "--seed", 100_000, "--stores", args.stores, "--views", args.views),
    )
    once(
        work.pool("real"),
        lambda out: run(
            "training.detector.real", "--labels", args.labels, "--data", args.data, "--out", out, "--boards", args.boards
        ),
    )


def train(work: Work, args: argparse.Namespace) -> None:
    """From the start's weights to exported ones."""
    once(work.warm, lambda out: run("training.detector.warm", args.start, out, "--pool", work.pool("rich")))
    pools = [f"{work.pool(name)}={share}" for name, share in (("rich", 1), ("sim", 1), ("real", 3))]
    bank = work.root / "fronts.npz"
    once(bank, lambda out: run("training.embedder.bank", "--out", out, "--printed", 1500, "--flat", 60, "--data", args.data))
    run(
        "training.detector.train", "--pool", *pools, "--init", work.warm, "--out", work.trained, "--minutes", args.minutes,
        "--batch", 8, "--lr", "1e-3", "--zoom", 0.45, 1.4, "--threads", args.threads, "--restock", "real", "--fronts", bank,
    )  # fmt: skip
    exported = work.root / "reproduced.onnx"
    run("training.detector.export", work.trained, exported)
    install(exported, work.models("reproduced"))
    install(args.start, work.models("start"))


def install(weights: Path, folder: Path) -> None:
    """A models folder with these weights alone, described as the shipped ones are."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "detector.onnx"
    write_atomic(target, weights.read_bytes())
    said = model_entry("detector").to_json()
    said |= {"file": target.name, "bytes": target.stat().st_size, "sha256": file_sha256(target)}
    said.pop("variants", None)
    write_models(folder, [said])


def held_out(labels: Path, data: Path) -> Measured:
    """The labelled frames that are never trained on."""

    def box(n: int, row: np.ndarray, cls: int) -> LabelledBox:
        x0, y0, x1, y1 = (float(v) for v in row)
        return LabelledBox(n, (x0, y0, x1, y1), "product", ignore=cls == IGNORE)

    return [
        (
            lambda s=s: np.ascontiguousarray(s.picture),  # type: ignore[misc]
            [box(n, r, int(c)) for n, (r, c) in enumerate(zip(s.boxes, s.classes, strict=True)) if int(c) in (PRODUCT, IGNORE)],
        )
        for s in samples(labels / "price_tags.json", data, held_out=True)
    ]


def racks(folder: Path) -> Measured:
    """Photographs with ``annotations.json``; every box is a product or to be ignored."""
    return [(lambda p=item.path: read_picture(p), item.boxes) for item in read_coco(folder)]  # type: ignore[misc]


def measure(models: Path | None, data: Measured, threads: int) -> dict[str, float]:
    """Average precision of one look; ``models`` None: the shipped weights."""
    detector = OnnxDetector(max_side_px=SIDE_PX, threshold=SENSITIVE, threads=threads, precision="fp32", models=models)
    return coco_measures([boxes for _, boxes in data], [detector.detect(read()).of(DetectionClass.PRODUCT) for read, _ in data])


def compare(work: Work, args: argparse.Namespace) -> bool:
    """Print the table; whether the reproduction is near enough."""
    sets = {"held-out frames": held_out(args.labels, args.data)}
    if args.racks:
        sets["racks"] = racks(args.racks)
    result: dict[str, dict[str, dict[str, float]]] = {}
    print(f"| data | weights | AP | AP50 | AP75 | AR300 |\n{'|---' * 6}|")
    for name, data in sets.items():
        for weights, models in (
            ("start", work.models("start")), ("reproduced", work.models("reproduced")), ("shipped", None),
        ):  # fmt: skip
            m = measure(models, data, args.threads)
            result.setdefault(name, {})[weights] = m
            cells = " | ".join(f"{m[k]:.3f}" for k in ("ap", "ap50", "ap75", "ar300"))
            print(f"| {name} ({len(data)}) | {weights} | {cells} |", flush=True)
    (work.root / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    judged = list(sets)[-1]
    below = result[judged]["shipped"]["ap"] - result[judged]["reproduced"]["ap"]
    near = bool(below <= args.tolerance)
    print(
        f"{judged}: AP {abs(below):.3f} {'below' if below > 0 else 'above'} the shipped weights; expected: at most "
        f"{args.tolerance:g} below; {'reproduced' if near else 'NOT reproduced'}"
    )
    return near


def check(args: argparse.Namespace) -> None:
    """Raises `BadInput` before anything is made."""
    need_torch()
    for folder in (args.data / "packshots", args.data / "price_tags", *([args.racks] if args.racks else [])):
        need_folder(folder)
    if not args.start.is_file():
        raise BadInput(f"{args.start}: no such file; git show 6a3ee96:models/detector.onnx > {args.start}")
    found = file_sha256(args.start)
    if found != START_SHA256:
        raise BadInput(f"{args.start}: sha256 {found}; expected {START_SHA256}")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=Path, required=True, help="weights to start from, see above")
    parser.add_argument("--data", type=Path, required=True, help="folder with packshots/ and price_tags/")
    parser.add_argument("--work", type=Path, required=True, help="folder for pools, checkpoints and results")
    parser.add_argument("--racks", type=Path, help="labelled photographs that are only measured on")
    parser.add_argument("--labels", type=Path, default=Path("training/labels"))
    parser.add_argument("--count", type=int, default=150, help="composed pictures")
    parser.add_argument("--stores", type=int, default=4, help="rendered stores")
    parser.add_argument("--views", type=int, default=4, help="viewpoints a face")
    parser.add_argument("--boards", type=int, default=60, help="pictures of nine small photographs each")
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tolerance", type=float, default=0.08, help="AP that may be lost against the shipped weights")
    args = parser.parse_args()
    try:
        check(args)
        work = Work(args.work)
        work.root.mkdir(parents=True, exist_ok=True)
        make_pools(work, args)
        train(work, args)
        return 0 if compare(work, args) else 1
    except BadInput as e:
        raise SystemExit(f"reproduce_detector: {e}") from e


if __name__ == "__main__":
    sys.exit(main())
