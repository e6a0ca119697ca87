"""``shelfscan store plan``: what a mission would see, before it drives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from shelfscan.bootstrap import plan_of
from shelfscan.bundle import load_bundle, write_map
from shelfscan.cli._console import out, print_json, progress
from shelfscan.config import Config, load_config
from shelfscan.errors import BadInput
from shelfscan.inputs import expect_writable
from shelfscan.mission.coverage import coverage_of, lines
from shelfscan.mission.sight import KeepOut, without
from shelfscan.model.bundle import Bundle
from shelfscan.runfolder import write_atomic


def _write_mask(path: Path, bundle: Bundle, settings: Config) -> None:
    """All keep-outs, whatever their hours: Nav2's filter knows none."""
    if path.suffix not in (".yaml", ".yml"):
        raise BadInput(f"--mask {path}: expected a name that ends in .yaml")
    zones = [KeepOut(k.name, tuple(k.corners_m)) for k in settings.mission.keep_outs]
    if not zones:
        raise BadInput("--mask: the configuration has no mission.keep_outs")
    empty = replace(bundle.grid, cells=np.zeros_like(bundle.grid.cells))
    write_map(path, without(empty, zones))


def plan(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Store bundle.")],
    config: Annotated[Path | None, typer.Option("--config", help="YAML configuration: keep-outs, aisles first, hours.")] = None,
    aisles: Annotated[list[str] | None, typer.Option("--aisle", help="Only this aisle; may be given more than once.")] = None,
    bins: Annotated[list[str] | None, typer.Option("--bin", help="Only this bin; may be given more than once.")] = None,
    picture: Annotated[Path | None, typer.Option("--picture", help="PNG of the map with viewpoints, way and gaps.")] = None,
    mask: Annotated[
        Path | None, typer.Option("--mask", help="Write the keep-outs as a filter mask for Nav2 (.yaml, with its .pgm).")
    ] = None,
    exposure_s: Annotated[float, typer.Option(min=1e-5, max=1, help="Exposure, for driving past without stopping.")] = 0.004,
    blur_px: Annotated[float, typer.Option(min=0.1, max=20, help="Motion blur that is borne, pixels of the RGB camera.")] = 1.0,
    rate_hz: Annotated[float, typer.Option(min=0.05, max=60, help="Captures a second that camera and computer manage.")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Plan a mission without driving it: which bins will be seen in full, why others will not, way, hours, charges."""
    settings = load_config(config)
    bundle = load_bundle(store)
    if picture is not None:
        expect_writable(picture)
    if mask is not None:
        _write_mask(mask, bundle, settings)
    with progress("planning"):
        planned = plan_of(bundle, settings, "plan", aisles=aisles or (), bins=bins or ())
    hours = settings.mission.most_hours
    rolling = {"exposure_s": exposure_s, "blur_px": blur_px, "captures_per_s": rate_hz}
    coverage = coverage_of(planned, bundle.store, bundle.robot, hours=hours, **rolling)
    if picture is not None:
        from shelfscan.cli.plan_picture import draw

        write_atomic(picture, draw(bundle, planned.plan, [k.corners_m for k in settings.mission.keep_outs]))
    if as_json:
        print_json(coverage.to_json())
        return
    for line in lines(coverage):
        out.print(line, highlight=False, markup=False, soft_wrap=True)
    if picture is not None:
        out.print(f"picture: {picture}", highlight=False, markup=False, soft_wrap=True)
