"""``shelfscan label queue|import``: what is worth labelling, and what was labelled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from shelfscan.adapters.ledger_place import has_ledger
from shelfscan.cli._console import err, out, print_json, progress
from shelfscan.cli.photos import expand
from shelfscan.errors import BadInput
from shelfscan.inputs import expect_writable
from shelfscan.model.imaging import Rgb

app = typer.Typer(help="Pictures to label for `shelfscan train`, and their labels.", no_args_is_help=True)

ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML configuration.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@app.command()
def queue(
    sources: Annotated[list[Path], typer.Argument(metavar="RUN|PHOTO...", help="A run folder, or pictures and folders.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder to write: pictures, drafts, queue.csv.")],
    count: Annotated[int, typer.Option("--count", min=1, max=10000, help="Pictures to choose, at most.")] = 20,
    gallery: Annotated[Path | None, typer.Option("--gallery", help="DIR/<sku>/*.jpg; doubts about names count too.")] = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Choose the pictures whose labels would teach most, with draft boxes for Label Studio and CVAT."""
    from shelfscan.adapters.model_store import in_use
    from shelfscan.adapters.models import model_entry
    from shelfscan.adapters.pictures import read_gallery
    from shelfscan.bootstrap import make_detector, make_embedder, make_recogniser
    from shelfscan.config import load_config
    from shelfscan.learn.exchange import queued, write_queue
    from shelfscan.learn.queue import Reviewed, choose, review
    from shelfscan.model.detections import DetectionClass
    from shelfscan.perception.photo import FAINT

    settings = load_config(config)
    expect_writable(out_dir, folder=True)
    if (out_dir / "queue.csv").exists():
        raise BadInput(f"{out_dir}: holds a queue already; give another --out")
    pictures = _Pictures(sources)
    references = read_gallery(gallery) if gallery is not None else None
    name = settings.detector.model
    entry = model_entry(name, in_use(name, settings.models.folder))
    thresholds = [entry.for_photographs[c.name] for c in DetectionClass]
    detector = make_detector(settings, threshold=FAINT)
    with progress("label queue") as report:
        recogniser = make_recogniser(settings, make_embedder(settings), references) if references is not None else None
        seen: list[Reviewed] = []
        names: list[str] = []
        for label, _, picture, done in pictures:
            report(label, 0.9 * done)
            seen.append(review(detector, thresholds, picture, recogniser))
            names.append(label)
        if not seen:
            raise BadInput(pictures.problems or ["there is no picture to look at"])
        ranks = {names[i]: i for i in choose(seen, count)}
        # Pictures are read again: those of a night do not fit into memory.
        again = {
            label: queued(label, stem, picture, seen[ranks[label]])
            for label, stem, picture, _ in _Pictures(sources)
            if label in ranks
        }
        write_queue(out_dir, [again[label] for label in ranks if label in again], detector.description)
    for problem in pictures.problems:
        err.print(f"shelfscan: left out: {problem}", highlight=False, markup=False, soft_wrap=True)
    doubts = sum(len(q.reviewed.doubts) for q in again.values())
    if as_json:
        chosen = [{"file": again[n].name, "source": n, "worth": round(again[n].reviewed.worth, 4)} for n in ranks if n in again]
        result = {"looked_at": len(seen), "chosen": chosen, "doubts": doubts, "out": str(out_dir)}
        print_json({**result, "left_out": pictures.problems})
        return
    _say(f"{out_dir}: {len(again)} of {len(seen)} pictures, {doubts} doubtful boxes; docs/training.md says how to label them")


@app.command("import")
def import_labels(
    file: Annotated[Path, typer.Argument(help="Label Studio JSON export, CVAT for images 1.1, COCO, or YOLO.")],
    into: Annotated[Path, typer.Option("--into", metavar="DIR", help="Data set to merge into (COCO); made when absent.")],
    images: Annotated[Path | None, typer.Option("--images", help="Where the pictures are, when not beside the labels.")] = None,
    as_json: Json = False,
) -> None:
    """Check labels and merge them into a data set; a picture that is there already gets the new ones."""
    from shelfscan.learn.datasets import read_dataset, read_raw
    from shelfscan.learn.exchange import merge

    if images is not None and not images.is_dir():
        raise BadInput(f"{images}: no such folder of pictures")
    bare = read_raw(file).bare
    data = read_dataset(file, images)
    done = merge(data, into)
    for problem in done.left_out:
        err.print(f"shelfscan: left out: {problem}", highlight=False, markup=False, soft_wrap=True)
    if as_json:
        result = {"added": done.added, "replaced": done.replaced, "unchanged": done.unchanged, "not_labelled_yet": bare}
        print_json({**result, "pictures": done.total, "boxes": done.boxes, "left_out": done.left_out, "into": str(into)})
        return
    waiting = f"; {bare} not labelled yet" if bare else ""
    changed = f"{done.added} added, {done.replaced} with new labels, {done.unchanged} as they were{waiting}"
    _say(f"{into}: {changed}. It has {done.total} pictures with {done.boxes} boxes")


class _Pictures:
    """(label, stem, picture, done in 0..1) of files, folders, or the recorded captures of a run folder; again at will.

    What could not be read is in ``problems``.
    """

    def __init__(self, sources: list[Path]) -> None:
        self.problems: list[str] = []
        runs = [s for s in sources if has_ledger(s)]
        if runs and len(sources) > 1:
            raise BadInput(f"{runs[0]}: a run folder is looked at on its own; {len(sources)} things were given")
        self._bag = runs[0] / "bag" if runs else None
        if self._bag is not None and not self._bag.is_dir():
            raise BadInput(f"{self._bag}: the run recorded no bag (ros.record: true makes one), so its pictures are gone")
        self._files = [] if runs else expand(sources)

    def __iter__(self) -> Iterator[tuple[str, str, Rgb, float]]:
        from shelfscan.adapters.pictures import read_picture

        if self._bag is not None:
            yield from self._captures(self._bag)
            return
        for n, file in enumerate(self._files):
            try:
                yield str(file), file.stem, read_picture(file), n / len(self._files)
            except BadInput as e:
                self.problems += e.problems

    def _captures(self, bag: Path) -> Iterator[tuple[str, str, Rgb, float]]:
        import cv2
        import numpy as np

        from shelfscan.adapters.frames_mcap import BagFrameSource

        source = BagFrameSource(bag)
        for n, capture in enumerate(source.frames()):
            for frame in capture.frames:
                label = f"{capture.capture_id}-{frame.head.name}"
                decoded = cv2.imdecode(np.frombuffer(frame.rgb_jpeg, np.uint8), cv2.IMREAD_COLOR)
                if decoded is None:
                    self.problems.append(f"{bag}: {label}: not a readable picture")
                    continue
                stem = label.replace("/", "_")
                picture = np.asarray(decoded[..., ::-1], np.uint8)
                yield label, stem, np.ascontiguousarray(picture), min(1.0, n * len(capture.frames) / max(source.expected, 1))
        self.problems += source.problems


def _say(text: str) -> None:
    out.print(text, highlight=False, markup=False, soft_wrap=True)
