"""One training of the detector from labelled pictures to weights that may replace those in use, or may not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shelfscan.adapters.detect_onnx import OnnxDetector
from shelfscan.adapters.model_store import HELD_OUT
from shelfscan.adapters.models import ModelEntry, file_sha256, model_entry, model_path
from shelfscan.errors import BadInput
from shelfscan.learn.detector import SENSITIVE, FitSettings, Fitted, Report, fit, starting_net, statistics_crops, with_drafts
from shelfscan.learn.export import write_detector
from shelfscan.learn.judge import Quality, better, judge
from shelfscan.learn.workset import Workset
from shelfscan.model.detections import DetectionClass

CHECKPOINT = "checkpoint.pt"
LICENCE = "the site's own: fine-tuned on its pictures from Apache-2.0 weights"
INPUT = "image: 1 x 3 x H x W float32 RGB in 0..1, H and W multiples of 32; products 30 to 250 px wide"


@dataclass(frozen=True)
class Outcome:
    """``file``: the new weights. ``against``: why they may not replace those in use; empty when they may."""

    file: Path
    new: Quality
    used: Quality
    shipped: Quality
    fitted: Fitted
    against: list[str]
    init_sha256: str


def train_detector(
    work: Workset, out: Path, settings: FitSettings, report: Report, *, name: str, site: Path | None, init: Path | None
) -> Outcome:
    """Train from ``init`` (by default the shipped weights), export to ``out`` and compare on the held-out pictures.

    ``site``: folder of the weights in use when they are not the shipped ones. A training that was stopped in ``out`` goes
    on; each starts from the same weights, so that pictures can be added again and again without old ones counting twice.
    Raises `BadInput`, `MissingModel`.
    """
    start = init or model_path(name)
    if not start.is_file():
        raise BadInput(f"{start}: no such weights to start from")
    samples = with_drafts(work, OnnxDetector(name, threads=settings.threads), report)
    start_sha = file_sha256(start)
    relevant = {k: v for k, v in asdict(settings).items() if k not in ("threads", "minutes", "epochs")}
    key = hashlib.sha256(json.dumps([start_sha, work.fingerprint, relevant], sort_keys=True).encode()).hexdigest()
    net = starting_net(start, statistics_crops(samples, settings), settings.norm)
    fitted = fit(work, samples, net, settings, out / CHECKPOINT, key, report)
    report("comparing", 1.0)
    entry = model_entry(name, site)
    file = stage(out / "candidate", fitted, entry.thresholds)
    sensitive = {"threshold": SENSITIVE, "threads": settings.threads}
    old = judge(OnnxDetector(name, models=site, **sensitive), work.held_out, *asked(entry), choose=False)  # type: ignore[arg-type]
    shipped = old
    if site is not None:
        shipped = judge(OnnxDetector(name, **sensitive), work.held_out, *asked(model_entry(name)), choose=False)  # type: ignore[arg-type]
    trained = OnnxDetector(models=file.parent, **sensitive)  # type: ignore[arg-type]
    new = judge(trained, work.held_out, *asked(entry), choose=True, beside=work.train)
    return Outcome(file, new, old, shipped, fitted, better(new, old), start_sha)


def asked(entry: ModelEntry) -> tuple[dict[str, float], dict[str, float]]:
    """The thresholds of a model: fused, and of one look."""
    return entry.for_photographs, dict(entry.thresholds)


def stage(folder: Path, fitted: Fitted, thresholds: Mapping[str, float]) -> Path:
    """Export the weights into a folder of their own that the runtime can read. Returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "detector.onnx"
    write_detector(fitted.net, file)
    entry = {
        "name": "detector", "file": file.name, "bytes": file.stat().st_size, "sha256": file_sha256(file),
        "classes": [c.name for c in DetectionClass], "thresholds": dict(thresholds), "iou": 0.55, "input": INPUT,
        "licence": LICENCE, "data": "see the training's own entry", "command": "shelfscan train detector",
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps({"models": [entry]}, indent=1) + "\n", encoding="utf-8")
    return file


def entry_of(outcome: Outcome, work: Workset, source: Path, command: str, made: str, iou: float) -> dict[str, Any]:
    """What the site's manifest says of the new weights."""
    return {
        "classes": [c.name for c in DetectionClass],
        "thresholds": outcome.new.look_thresholds,
        "photo_thresholds": outcome.new.thresholds,
        "iou": iou,
        "licence": LICENCE,
        "input": INPUT,
        "data": data_text(work, source),
        "data_sha256": work.fingerprint,
        "command": command,
        "made": made,
        "parent": outcome.init_sha256,
        "metrics": {
            HELD_OUT: {
                "command": command,
                "date": made[:10],
                "data": f"{len(work.held_out)} held-out pictures",
                "values": {
                    "new": outcome.new.numbers(),
                    "replaced": outcome.used.numbers(),
                    "shipped": outcome.shipped.numbers(),
                },
            }
        },
    }


def data_text(work: Workset, source: Path) -> str:
    """The training data in one line."""
    boxes = sum(int((s.classes == int(DetectionClass.PRODUCT)).sum()) for s in work.train)
    return f"{len(work.train)} pictures with {boxes} products of {source.name}; {len(work.held_out)} more held out"


def card_of(outcome: Outcome, entry: Mapping[str, Any], forced: bool) -> str:
    """The card, Markdown."""
    fitted = outcome.fitted
    rows = "\n".join(
        f"| {name} | " + " | ".join(map(_share, (q.ap, q.ap50, q.ap75, q.tag_ap50, q.empty_ap50))) + f" | {q.count_mae:.1f} |"
        for name, q in (("shipped", outcome.shipped), ("used before", outcome.used), ("these", outcome.new))
    )
    stopped = ", stopped early" if fitted.stopped_early else ""
    note = ""
    if forced and outcome.against:
        note = f"\n**Put into use by `--force`** although: {'; '.join(outcome.against)}.\n"
    return f"""# Detector, trained on a site's own pictures

Made {entry["made"]} by `{entry["command"]}` from the weights {outcome.init_sha256[:12]}: {fitted.steps} steps in
{fitted.seconds / 60:.1f} minutes{stopped}. Licence: {entry["licence"]}.

**Trained on** {entry["data"]}. Classes without a label there were kept as the shipped weights see them.
{note}
**Measured** on {entry["metrics"][HELD_OUT]["data"]} of the same data, the same for all rows:

| weights | AP | AP50 | AP75 | AP50 tags | AP50 empty | count off by |
|---|---|---|---|---|---|---|
{rows}

Which step's weights were taken and their thresholds were chosen on these pictures, so the last row flatters a little; and they
are of the same shelves as the training pictures, so it says nothing about another store.
"""


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
