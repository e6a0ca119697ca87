"""``shelfscan train detector|embedder``: better weights from a store's own labelled pictures."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from shelfscan.cli._console import err, out, print_json, progress
from shelfscan.errors import BadInput
from shelfscan.inputs import expect_writable

if TYPE_CHECKING:
    from shelfscan.learn.detector_job import Outcome
    from shelfscan.learn.workset import Workset

app = typer.Typer(help="Train on your own labelled pictures; what is no better is not put into use.", no_args_is_help=True)

Data = Annotated[Path, typer.Option("--data", metavar="PATH", help="Labelled pictures: a folder, or its label file.")]
Out = Annotated[Path, typer.Option("--out", help="Folder of this training: split, working copies, checkpoint.")]
Models = Annotated[
    Path | None,
    typer.Option("--models", help="Folder of your own models; by default models.folder of the configuration, else OUT/models."),
]
Init = Annotated[Path | None, typer.Option("--init", metavar="FILE", help="Weights to start from: .onnx, or a checkpoint.")]
Force = Annotated[bool, typer.Option("--force", help="Put the new weights into use even when they are not better.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, max=256, help="Cores to use; by default all.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Order of the pictures and what is done to them.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML configuration.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@app.command()
def detector(
    data: Data,
    out_dir: Out = Path("train-detector"),
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0.01, help="Training time, at most; by default 10 to 110 by pictures.")
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Rounds through the pictures, not minutes.")] = None,
    images: Annotated[Path | None, typer.Option("--images", help="Where the pictures are, when not beside the labels.")] = None,
    init: Init = None,
    models: Models = None,
    force: Force = False,
    threads: Threads = None,
    seed: Seed = 0,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Boxes: COCO, YOLO, Label Studio (JSON) or CVAT for images 1.1. A fifth of the pictures is held out and compared on."""
    from shelfscan.adapters.model_store import in_use, install
    from shelfscan.adapters.models import model_entry
    from shelfscan.config import load_config
    from shelfscan.learn.datasets import read_dataset
    from shelfscan.learn.need import need_torch
    from shelfscan.runfolder import claimed

    settings = load_config(config)
    name = settings.detector.model
    need_torch()
    _expect_folders(images, out_dir, models)
    labelled = read_dataset(data, images)
    from shelfscan.learn.detector import FitSettings, minutes_for
    from shelfscan.learn.detector_job import card_of, entry_of, train_detector
    from shelfscan.learn.loop import usable_threads
    from shelfscan.learn.workset import prepare

    site = models or settings.models.folder or out_dir / "models"
    with claimed(out_dir), progress("train detector") as report:
        work = prepare(labelled, out_dir, report)
        _tell_data(work)
        used = in_use(name, site) if (site / "manifest.json").exists() else None
        fit = FitSettings(
            minutes=minutes_for(len(work.train)) if minutes is None else minutes,
            epochs=epochs,
            seed=seed,
            threads=threads or usable_threads(),
        )
        done = train_detector(work, out_dir, fit, report, name=name, site=used, init=init)
        made = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        iou = model_entry(name, used).iou
        entry = entry_of(done, work, data, _command(), made, iou)
        version = None
        if force or not done.against:
            version = install(site, name, done.file, entry, card_of(done, entry, force))
    result = {
        "installed": version is not None,
        "against": done.against,
        "models": str(site) if version is not None else None,
        "sha256": version.sha256 if version is not None else None,
        "file": str(version.folder / version.entry.file) if version is not None else str(done.file),
        "held_out_pictures": len(work.held_out),
        "new": done.new.to_json(),
        "replaced": done.used.to_json(),
        "shipped": done.shipped.to_json(),
        "training_pictures": len(work.train),
        "thresholds": done.new.thresholds,
        "steps": done.fitted.steps,
        "seconds": round(done.fitted.seconds, 1),
        "stopped_early": done.fitted.stopped_early,
        "left_out": list(work.left_out),
    }
    if as_json:
        print_json(result)
        return
    _compare(done, work)
    _end(version is not None, done.against, site, done.file, settings.models.folder)


@app.command()
def embedder(
    data: Annotated[Path, typer.Option("--data", metavar="PATH", help="A folder of pictures a SKU, or labels.csv.")],
    out_dir: Out = Path("train-embedder"),
    minutes: Annotated[float, typer.Option("--minutes", min=0.01, help="Training time, at most.")] = 10.0,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Rounds through the pictures, not minutes.")] = None,
    init: Annotated[Path | None, typer.Option("--init", metavar="FILE", help="Weights to start from: .onnx.")] = None,
    models: Models = None,
    force: Force = False,
    threads: Threads = None,
    seed: Seed = 0,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Names: pictures of single products by SKU. A quarter of each SKU's pictures is held out and compared on."""
    from shelfscan.adapters.model_store import in_use, install
    from shelfscan.config import load_config
    from shelfscan.learn.need import need_torch
    from shelfscan.runfolder import claimed

    settings = load_config(config)
    name = settings.embedder.model
    need_torch()
    _expect_folders(None, out_dir, models)
    from shelfscan.learn.embedder import EmbedSettings, train_embedder
    from shelfscan.learn.embedder_card import card_of, entry_of
    from shelfscan.learn.loop import usable_threads
    from shelfscan.learn.packs import files_by_sku, read_packs

    files_by_sku(data)  # what is wrong is said before a folder is made
    site = models or settings.models.folder or out_dir / "models"
    with claimed(out_dir), progress("train embedder") as report:
        packs = read_packs(data, out_dir, report)
        _tell_left_out(packs.left_out)
        used = in_use(name, site) if (site / "manifest.json").exists() else None
        fit = EmbedSettings(minutes=minutes, epochs=epochs, seed=seed, threads=threads or usable_threads())
        done = train_embedder(packs, out_dir, fit, report, name=name, site=used, init=init)
        made = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        entry = entry_of(done, packs, data, _command(), made)
        version = None
        if force or not done.against:
            version = install(site, name, done.file, entry, card_of(done, entry, force))
    result = {
        "installed": version is not None,
        "against": done.against,
        "models": str(site) if version is not None else None,
        "sha256": version.sha256 if version is not None else None,
        "file": str(version.folder / version.entry.file) if version is not None else str(done.file),
        "held_out_pictures": packs.held_out,
        "new": done.new.to_json(),
        "replaced": done.used.to_json(),
        "shipped": done.shipped.to_json(),
        "training_pictures": packs.train,
        "skus": len(packs.packs),
        "steps": done.steps,
        "seconds": round(done.seconds, 1),
        "stopped_early": done.stopped_early,
        "left_out": list(packs.left_out),
    }
    if as_json:
        print_json(result)
        return
    table = Table(title=f"{packs.held_out} held-out pictures of {len(packs.packs)} SKUs")
    for column in ("weights", "top-1", "right and not unknown", "top-1 of drawn packages"):
        table.add_column(column)
    rows = [("shipped", done.shipped), ("new", done.new)]
    if done.used is not done.shipped:
        rows.insert(1, ("in use", done.used))
    for title, q in rows:
        table.add_row(title, f"{q.top1:.3f}", f"{q.named:.3f}", f"{q.drawn_top1:.3f}")
    out.print(table)
    _end(version is not None, done.against, site, done.file, settings.models.folder)


def _end(installed: bool, against: list[str], site: Path, file: Path, configured: Path | None) -> None:
    if not installed:
        _say(f"Not put into use: {'; '.join(against)}. They are in {file}; --force uses them anyway.")
    else:
        _say(f"In use from {site}{' (forced)' if against else ''}. {_how_to_use(site, configured)}")


def _compare(done: Outcome, work: Workset) -> None:
    table = Table(title=f"{len(work.held_out)} held-out pictures")
    table.add_column("weights")
    for column in ("AP", "AP50", "AP75", "tags AP50", "empty AP50", "count off by", "threshold"):
        table.add_column(column, justify="right")
    rows = [("shipped", done.shipped), ("new", done.new)]
    if done.used is not done.shipped:
        rows.insert(1, ("in use", done.used))
    for name, q in rows:
        shares = ["–" if v is None else f"{v:.3f}" for v in (q.ap, q.ap50, q.ap75, q.tag_ap50, q.empty_ap50)]
        table.add_row(name, *shares, f"{q.count_mae:.1f}", f"{q.thresholds['PRODUCT']:.2f}")
    out.print(table)


def _tell_left_out(problems: Sequence[str]) -> None:
    for problem in problems:
        err.print(f"shelfscan: left out: {problem}", highlight=False, markup=False, soft_wrap=True)


def _tell_data(work: Workset) -> None:
    _tell_left_out(work.left_out)
    text = f"{len(work.train)} pictures to train on, {len(work.held_out)} held out"
    few = "; with so few held out the comparison is rough" if len(work.held_out) < 4 else ""
    err.print(f"shelfscan: {text}{few}", highlight=False, markup=False, soft_wrap=True)


def _expect_folders(images: Path | None, out_dir: Path, models: Path | None) -> None:
    if images is not None and not images.is_dir():
        raise BadInput(f"{images}: no such folder of pictures")
    expect_writable(out_dir, folder=True)
    if models is not None:
        expect_writable(models, folder=True)


def _how_to_use(site: Path, configured: Path | None) -> str:
    if configured is not None and configured.resolve() == site.resolve():
        return "`shelfscan models rollback` goes back."
    return f"Runs take them with models.folder: {site.resolve()} in the configuration."


def _command() -> str:
    """The command line, for the manifest."""
    return shlex.join(["shelfscan", *sys.argv[1:]])


def _say(text: str) -> None:
    out.print(text, highlight=False, markup=False, soft_wrap=True)
