"""``shelfscan eval``: the shipped networks and readers measured on labelled photographs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from shelfscan.cli._console import err, out, print_json, progress
from shelfscan.errors import MissingModel

app = typer.Typer(help="Measure on labelled data; nothing of it is learnt from.", no_args_is_help=True)

Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder of labelled data.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML configuration.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Which references are drawn.")]
Jobs = Annotated[int | None, typer.Option("--jobs", min=1, max=256, help="Processes at once; by default one a CPU.")]
#: Boxes below this score no longer change average precision; fewer of them keep it quick.
SENSITIVE = 0.02


@app.command()
def detection(data: Data, config: ConfigFile = None, as_json: Json = False) -> None:
    """Product boxes against COCO labels: annotations.json + images/."""
    from shelfscan.adapters.model_store import in_use
    from shelfscan.adapters.models import model_entry
    from shelfscan.bootstrap import make_photo_detector
    from shelfscan.config import load_config
    from shelfscan.evaluation.detection import evaluate_detection

    settings = load_config(config)
    name = settings.detector.model
    threshold = model_entry(name, in_use(name, settings.models.folder)).for_photographs["PRODUCT"]
    with progress("eval detection") as report:
        detectors = make_photo_detector(settings), make_photo_detector(settings, threshold=SENSITIVE)
        result = evaluate_detection(data, *detectors, threshold, report)
    _tell("detection", data, result, as_json)


@app.command()
def recognition(
    data: Data,
    references: Annotated[int, typer.Option("--references", min=1, max=50, help="References a SKU, at most.")] = 1,
    seed: Seed = 0,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Names of product crops: gallery_query.csv with annotations.json, or gallery_iconic.csv with labels.csv."""
    from shelfscan.config import load_config
    from shelfscan.evaluation.recognition import evaluate_recognition

    with progress("eval recognition") as report:
        result = evaluate_recognition(data, _enroller(load_config(config)), references, seed, report)
    _tell("recognition", data, result, as_json)


@app.command()
def crops(
    data: Data,
    references: Annotated[int, typer.Option("--references", min=1, max=50, help="References a product.")] = 1,
    splits: Annotated[int, typer.Option("--splits", min=1, max=100, help="Draws of references that are pooled.")] = 3,
    seed: Seed = 0,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Names of product crops: a folder of pictures a product."""
    from shelfscan.config import load_config
    from shelfscan.evaluation.recognition import evaluate_crops

    with progress("eval crops") as report:
        result = evaluate_crops(data, _enroller(load_config(config)), references, splits, seed, report)
    _tell("crops", data, result, as_json)


@app.command()
def tags(data: Data, config: ConfigFile = None, as_json: Json = False) -> None:
    """Price tags found and prices read: COCO labels with the field price."""
    from shelfscan.bootstrap import make_photo_detector, make_tag_reader
    from shelfscan.config import load_config
    from shelfscan.evaluation.reading import evaluate_tags

    settings = load_config(config)
    reader = make_tag_reader(settings)
    if reader is None:
        raise MissingModel("no tag reader: the configuration says tags.reader: none, or rapidocr, which is not installed")
    with progress("eval tags") as report:
        result = evaluate_tags(data, make_photo_detector(settings), reader, report)
    _tell("tags", data, result, as_json)


@app.command()
def barcodes(data: Data, jobs: Jobs = None, as_json: Json = False) -> None:
    """EAN and UPC codes read: labels.csv with file and text."""
    from shelfscan.adapters.codes_zxing import ZxingCodeReader
    from shelfscan.evaluation.reading import evaluate_barcodes

    with progress("eval barcodes") as report:
        result = evaluate_barcodes(data, ZxingCodeReader(), report, jobs or len(os.sched_getaffinity(0)))
    _tell("barcodes", data, result, as_json)


@app.command()
def expiry(data: Data, as_json: Json = False) -> None:
    """Expiry dates read: labels.csv with file and expiry_iso8601, and images/."""
    from shelfscan.adapters.dates_rapidocr import RapidOcrDates
    from shelfscan.evaluation.reading import evaluate_expiry

    with progress("eval expiry") as report:
        result = evaluate_expiry(data, RapidOcrDates(), report)
    _tell("expiry", data, result, as_json)


@app.command()
def stereo(data: Data, as_json: Json = False) -> None:
    """Disparity of rectified pairs: a folder a pair with left.png, right.png, disp_left_x64.png and meta.json."""
    from shelfscan.evaluation.depth import evaluate_stereo

    with progress("eval stereo") as report:
        result = evaluate_stereo(data, report)
    _tell("stereo", data, result, as_json)


@app.command()
def facings(
    data: Data,
    gallery: Annotated[Path | None, typer.Option("--gallery", help="References; by default the subfolder with them.")] = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Facings, names and order in whole photographs: facings.json, its photographs and a gallery."""
    from shelfscan.bootstrap import make_photo_detector
    from shelfscan.config import load_config
    from shelfscan.evaluation.facings import evaluate_facings

    settings = load_config(config)
    with progress("eval facings") as report:
        result = evaluate_facings(data, gallery, make_photo_detector(settings), _enroller(settings), report)
    _tell("facings", data, result, as_json)


def _enroller(settings: Any) -> Any:
    """Makes recognisers over one embedder."""
    from shelfscan.bootstrap import make_embedder, make_recogniser

    embedder = make_embedder(settings)
    return lambda references: make_recogniser(settings, embedder, references)


def _tell(what: str, data: Path, result: dict[str, Any], as_json: bool) -> None:
    """The result on stdout, what was left out on stderr."""
    left_out = result["unreadable"]
    for problem in left_out:
        err.print(f"shelfscan: left out: {problem}", highlight=False, markup=False, soft_wrap=True)
    if as_json:
        print_json(result)
        return
    table = Table(title=f"{what} on {data}")
    table.add_column("measure")
    table.add_column("value", justify="right")
    for name, value in result.items():
        if name == "pairs":
            for pair in value:
                table.add_row(pair["name"], "  ".join(f"{k} {v}" for k, v in pair.items() if k != "name"))
        elif name == "unreadable":
            table.add_row("unreadable pictures", str(len(value)))
        else:
            table.add_row(name, "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value))
    out.print(table)
