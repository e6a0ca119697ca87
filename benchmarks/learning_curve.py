"""How much a few labelled photographs help the detector: a learning curve by number of photographs.

    python -m benchmarks.learning_curve --data DATA/racks --counts 0 5 10 14 --minutes 4

A fixed part of the data (by content, the same at every point) is only measured on. Of the others the first N are given to
the training, which holds a fifth of them out for itself. Weights and working copies lie in a temporary folder and are
deleted: such data may be for evaluation only. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from dataclasses import replace
from pathlib import Path

from shelfscan.adapters.detect_onnx import OnnxDetector
from shelfscan.adapters.models import model_entry
from shelfscan.errors import BadInput
from shelfscan.learn.datasets import Dataset, read_dataset
from shelfscan.learn.detector import SENSITIVE, FitSettings
from shelfscan.learn.detector_job import asked, train_detector
from shelfscan.learn.judge import Quality, judge
from shelfscan.learn.need import need_torch
from shelfscan.learn.workset import Sample, Workset, prepare


def measured_part(data: Dataset, count: int) -> tuple[Dataset, Dataset]:
    """(for training, only measured on), decided by the pictures' content."""
    ordered = sorted(data.pictures, key=lambda p: hashlib.sha256(p.path.read_bytes()).hexdigest())
    if len(ordered) <= count + 1:
        raise BadInput(f"{data.source}: {len(ordered)} pictures; expected more than {count} that are kept for measuring")
    return replace(data, pictures=tuple(ordered[:-count])), replace(data, pictures=tuple(ordered[-count:]))


def copies(data: Dataset, folder: Path) -> tuple[Sample, ...]:
    """All pictures of a data set as working copies."""
    work = prepare(data, folder, lambda *_: None)
    return (*work.train, *work.held_out)


def point(work: Workset, test: tuple[Sample, ...], out: Path, settings: FitSettings) -> tuple[Quality, int]:
    """Train and measure on the pictures that were kept back; also the steps that were made."""
    done = train_detector(work, out, settings, _say, name="detector", site=None, init=None)
    detector = OnnxDetector(models=done.file.parent, threshold=SENSITIVE, threads=settings.threads)
    return judge(detector, test, done.new.thresholds, done.new.look_thresholds, choose=False), done.fitted.steps


def _say(what: str, done: float) -> None:
    if int(done * 1000) % 100 == 0:
        print(f"  {what} {done:.0%}", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="labelled pictures in any format that training reads")
    parser.add_argument("--counts", type=int, nargs="+", default=[0, 5, 10, 14])
    parser.add_argument("--kept-back", type=int, default=5, help="pictures that are only measured on")
    parser.add_argument("--minutes", type=float, default=4.0, help="a point")
    parser.add_argument("--epochs", type=int, help="instead of minutes: how often each picture is gone through")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--norm", default=FitSettings().norm)
    parser.add_argument("--mosaics", type=float, default=FitSettings().mosaics)
    parser.add_argument("--lr", type=float, default=FitSettings().lr)
    args = parser.parse_args()
    rows: list[tuple[str, Quality, str]] = []
    try:
        need_torch()
        train, kept = measured_part(read_dataset(args.data), args.kept_back)
        with tempfile.TemporaryDirectory(prefix="learning-curve-") as scratch:
            test = copies(kept, Path(scratch) / "kept")
            for count in args.counts:
                if count == 0:
                    entry = model_entry("detector")
                    detector = OnnxDetector(threshold=SENSITIVE, threads=args.threads)
                    rows.append(("0 (shipped)", judge(detector, test, *asked(entry), choose=False), "–"))
                    continue
                part = replace(train, pictures=train.pictures[:count])
                if len(part.pictures) < count:
                    raise BadInput(f"{args.data}: {len(part.pictures)} pictures to train on; {count} were asked for")
                for seed in args.seeds:
                    out = Path(scratch) / f"{count}-{seed}"
                    work = prepare(part, out, lambda *_: None)
                    settings = FitSettings(
                        minutes=args.minutes, epochs=args.epochs, threads=args.threads, seed=seed,
                        norm=args.norm, mosaics=args.mosaics, lr=args.lr,
                    )  # fmt: skip
                    quality, steps = point(work, test, out, settings)
                    rows.append((f"{count} (seed {seed})" if len(args.seeds) > 1 else str(count), quality, str(steps)))
                    print(rows[-1], flush=True)
    except BadInput as e:
        raise SystemExit(f"learning_curve: {e}") from e
    print(f"| photographs | AP | AP50 | AP75 | count off by | steps |\n{'|---' * 6}|")
    for name, q, made in rows:
        print(f"| {name} | {q.ap:.3f} | {q.ap50:.3f} | {q.ap75:.3f} | {q.count_mae:.1f} | {made} |")


if __name__ == "__main__":
    main()
