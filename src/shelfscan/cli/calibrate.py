"""``shelfscan calibrate``: a robot's cameras, measured with a printed ChArUco board."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shelfscan.cli._console import err, out, print_json
from shelfscan.errors import BadInput
from shelfscan.inputs import expect_writable

if TYPE_CHECKING:
    from shelfscan.calibration.board import Board
    from shelfscan.calibration.corners import Found
    from shelfscan.calibration.intrinsics import LensFit
    from shelfscan.calibration.writing import RobotFile
    from shelfscan.model.imaging import Intrinsics

app = typer.Typer(help="Cameras measured with a printed ChArUco board, into robot.yaml.", no_args_is_help=True)

BoardText = Annotated[
    str,
    typer.Option("--board", metavar="X,Y,SQUARE_M,MARKER_M,DICTIONARY", help="The board: squares, their side, the dictionary."),
]
Robot = Annotated[Path, typer.Option("--robot", help="robot.yaml to begin with.")]
Out = Annotated[Path | None, typer.Option("--out", help="The completed robot.yaml; without it --robot is replaced.")]
Pictures = Annotated[
    Path,
    typer.Argument(metavar="PICTURES", help="Folder with HEAD-CAMERA-KEY.png (or HEAD/CAMERA/KEY.png), or a bag of captures."),
]
Raw = Annotated[bool, typer.Option("--raw", help="The pictures are not rectified: distortion is measured too.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
#: Same text as `shelfscan.calibration.board.DEFAULT`, which is not imported before it is needed.
DEFAULT = "9,6,0.040,0.030,DICT_5X5_100"


@app.command("board")
def board_command(
    out_file: Annotated[Path, typer.Option("--out", help="The picture to print, PNG.")],
    board: BoardText = DEFAULT,
    pdf: Annotated[bool, typer.Option("--pdf", help="Write a PDF of the true size beside it too.")] = False,
    paper: Annotated[str, typer.Option(help="a4, a3 or a2; without it the page is as large as the board needs.")] = "",
    dpi: Annotated[int, typer.Option(min=72, max=1200, help="Dots per inch.")] = 300,
) -> None:
    """Draw the board to scale. Print it at 100 %, measure the line below it, and glue it to something stiff."""
    from shelfscan.calibration.board import Board, encoded
    from shelfscan.runfolder import write_atomic

    if out_file.suffix.lower() != ".png":
        raise BadInput(f"{out_file}: expected a name that ends in .png")
    expect_writable(out_file)
    page = Board.parse(board).page(dpi, paper)
    write_atomic(out_file, encoded(page, dpi, "PNG"))
    files = [out_file]
    if pdf:
        files.append(out_file.with_suffix(".pdf"))
        write_atomic(files[-1], encoded(page, dpi, "PDF"))
    size = " x ".join(f"{v / dpi * 25.4:.0f}" for v in page.size)
    out.print(f"{', '.join(str(f) for f in files)}: {size} mm at 100 %, --board {Board.parse(board)}", highlight=False)


@app.command("intrinsics")
def intrinsics(
    pictures: Pictures, robot: Robot, board: BoardText = DEFAULT, out_file: Out = None, raw: Raw = False, as_json: Json = False
) -> None:
    """Measure every lens that has pictures: focal length, centre and (with --raw) distortion."""
    from shelfscan.calibration.intrinsics import fit_lens

    with _session(pictures, robot, board, out_file, raw) as (file, found, plate, target):
        problems: list[str] = []
        report: dict[str, Any] = {}
        for name in found.heads:
            head = file.model.rig.head(name)
            fits: dict[str, LensFit] = {}
            groups = (
                {"left": ["left"], "right": ["right"], "rgb": ["rgb"]} if raw else {"left": ["left", "right"], "rgb": ["rgb"]}
            )
            for camera, members in groups.items():
                views = [v for c in members for v in found.of(name, c)]
                if not views:
                    continue
                nominal = head.rgb.intrinsics if camera == "rgb" else head.left.intrinsics
                label = f"{name}/{'+'.join(members)}"
                try:
                    fits[camera] = fit_lens(label, views, plate, nominal, rectified=not raw)
                except BadInput as e:
                    problems += e.problems
                    continue
                report[label] = _lens_report(fits[camera])
            if raw and ("left" in fits) != ("right" in fits):
                problems.append(f"{name}: a pair needs pictures of both left and right")
            file.set_lens(name, fits, rectified=not raw)
        if problems:
            raise BadInput([*problems, *(f"left out: {x}" for x in found.left_out)])
        file.save(target)
    _tell(target, found, report, as_json)


@app.command("stereo")
def stereo(
    pictures: Pictures,
    robot: Robot,
    board: BoardText = DEFAULT,
    out_file: Out = None,
    raw: Raw = False,
    camera_info: Annotated[
        Path | None, typer.Option("--camera-info", help="Folder for camera_info files that drivers or image_proc rectify with.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure how the cameras of each head sit to each other: baseline, rows of the pair, and the RGB camera."""
    import numpy as np

    from shelfscan.calibration.pair import BASELINE_SHARE, fit_pair
    from shelfscan.calibration.writing import write_camera_info

    if camera_info is not None:
        if not raw:
            raise BadInput("--camera-info is for pictures that are not rectified yet: pass --raw too")
        expect_writable(camera_info, folder=True)
    with _session(pictures, robot, board, out_file, raw) as (file, found, plate, target):
        report: dict[str, Any] = {}
        infos: list[tuple[str, Intrinsics, Intrinsics, Any, float]] = []
        problems: list[str] = []
        for name in found.heads:
            head = file.model.rig.head(name)
            seen = [c for c in ("left", "right", "rgb") if found.of(name, c)]
            missing = {"left", "right"} - set(seen)
            if missing:
                problems.append(f"{name}: no picture of its {' and '.join(sorted(missing))} camera shows the board")
                continue
            plain = {"left": head.left.intrinsics, "right": head.right.intrinsics, "rgb": head.rgb.intrinsics}
            try:
                lenses = {c: file.raw_lens(name, c) if raw else plain[c] for c in seen}
                fit = fit_pair(name, found.views, plate, lenses, rectified=not raw)
            except BadInput as e:
                problems += e.problems
                continue
            before = head.baseline_m
            file.set_pair(name, fit)
            warnings = []
            if abs(fit.baseline_m / before - 1) > BASELINE_SHARE:
                warnings.append(
                    f"the baseline is {fit.baseline_m * 1000:.1f} mm and was {before * 1000:.1f}; "
                    f"is a square {plate.square_m * 1000:g} mm?"
                )
            report[name] = {
                "baseline_m": round(fit.baseline_m, 5),
                "epipolar_rms_px": round(fit.epipolar_rms_px, 3),
                "rms_px": round(fit.rms_px, 3),
                "sigma_mm": round(fit.sigma_m * 1000, 3),
                "sigma_deg": round(fit.sigma_deg, 4),
                "pairs": fit.pairs,
                "pictures": fit.rms_of,
                "warnings": warnings,
            }
            if raw:
                infos.append((f"{name}_left", lenses["left"], fit.lens, fit.turn_left, 0.0))
                infos.append((f"{name}_right", lenses["right"], fit.lens, fit.turn_right, fit.baseline_m))
                if "rgb" in lenses:
                    infos.append((f"{name}_rgb", lenses["rgb"], head.rgb.intrinsics, np.eye(3), 0.0))
        if problems:
            raise BadInput(problems)
        if camera_info is not None:
            for info in infos:
                write_camera_info(camera_info, *info)
        file.save(target)
    _tell(target, found, report, as_json)


@app.command("extrinsics")
def extrinsics(
    pictures: Pictures,
    robot: Robot,
    board: BoardText = DEFAULT,
    out_file: Out = None,
    board_pose: Annotated[
        str,
        typer.Option(
            "--board-pose", metavar="X,Y,Z,ROLL,PITCH,YAW", help="The board's middle in base_link, metres and degrees."
        ),
    ] = "",
    boards: Annotated[
        Path | None, typer.Option("--boards", help="CSV of several: key,x_m,y_m,z_m,roll_deg,pitch_deg,yaw_deg.")
    ] = None,
    reference: Annotated[
        str, typer.Option("--reference", help="Head whose pose in robot.yaml is right; the others follow.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Measure where the heads sit, from rectified pictures of boards at known places or of one that two heads see."""
    from shelfscan.calibration.placing import MOVED_DEG, MOVED_M, place_heads, read_board_pose, read_board_poses

    if sum((bool(board_pose), boards is not None, bool(reference))) != 1:
        raise BadInput("expected one of --board-pose, --boards and --reference")
    with _session(pictures, robot, board, out_file, raw=False) as (file, found, plate, target):
        if boards is not None:
            known = read_board_poses(boards, plate)
        else:
            known = {"": read_board_pose(board_pose, plate)} if board_pose else {}
        heads = {h.name: h for h in file.model.rig.heads}
        if reference and reference not in heads:
            raise BadInput(f"--reference {reference}: {robot} has no such head; it has {', '.join(heads)}")
        placed = place_heads(heads, found.views, plate, known, reference)
        file.set_places(placed)
        file.save(target)
    report: dict[str, Any] = {}
    for name, fit in placed.heads.items():
        warnings = []
        if fit.moved_m > MOVED_M or fit.moved_deg > MOVED_DEG:
            warnings.append(f"{fit.moved_m * 1000:.0f} mm and {fit.moved_deg:.1f} degrees from where {robot} had it")
        report[name] = {
            "rms_px": round(placed.rms_px, 3),
            "sigma_mm": round(fit.sigma_m * 1000, 2),
            "sigma_deg": round(fit.sigma_deg, 3),
            "moved_mm": round(fit.moved_m * 1000, 1),
            "moved_deg": round(fit.moved_deg, 2),
            "pictures": {s: r for s, r in placed.rms_of.items() if any(v.source == s and v.head == name for v in found.views)},
            "warnings": warnings,
        }
    _tell(target, found, report, as_json)


@app.command("check")
def check(
    robot: Annotated[Path, typer.Argument(metavar="ROBOT.yaml", help="The robot's file.")],
    pictures: Pictures,
    board: BoardText = DEFAULT,
    raw: Raw = False,
    as_json: Json = False,
) -> None:
    """Say whether a calibration still holds on new pictures of the board; exit 1 when it does not."""
    from shelfscan.calibration.holds import check_calibration

    with _session(pictures, robot, board, robot, raw) as (file, found, plate, _):
        held = check_calibration(file, found, plate, raw=raw)
    good = all(h.ok for h in held)
    if as_json:
        checks = [
            {
                "what": h.what,
                "value": round(h.value, 4),
                "most": round(h.most, 4),
                "unit": h.unit,
                "pictures": h.pictures,
                "ok": h.ok,
            }
            for h in held
        ]
        print_json({"robot": str(robot), "ok": good, "checks": checks, "left_out": found.left_out})
    else:
        for text in found.left_out:
            err.print(f"left out: {text}", highlight=False, markup=False, soft_wrap=True)
        for h in held:
            out.print(f"{'holds' if h.ok else 'FAILS'}  {h}", highlight=False, markup=False, soft_wrap=True)
    if not good:
        raise typer.Exit(1)


@contextmanager
def _session(
    pictures: Path, robot: Path, board: str, out_file: Path | None, raw: bool
) -> Iterator[tuple[RobotFile, Found, Board, Path]]:
    """The robot's file, the board in all pictures, and where to write."""
    from shelfscan.calibration.board import Board
    from shelfscan.calibration.corners import find_board
    from shelfscan.calibration.pictures import read_pictures
    from shelfscan.calibration.writing import RobotFile

    plate = Board.parse(board)
    file = RobotFile(robot)
    target = out_file or robot
    expect_writable(target)
    found = find_board(read_pictures(pictures, [h.name for h in file.model.rig.heads]), plate)
    yield file, found, plate, target


def _lens_report(fit: LensFit) -> dict[str, Any]:
    i = fit.intrinsics
    return {
        "fx_px": round(i.fx_px, 3),
        "fy_px": round(i.fy_px, 3),
        "cx_px": round(i.cx_px, 3),
        "cy_px": round(i.cy_px, 3),
        "distortion": [round(v, 6) for v in i.distortion],
        "rms_px": round(fit.rms_px, 3),
        "sigma_fx_percent": round(fit.sigma_fx * 100, 4),
        "corners": fit.corners,
        "coverage": round(fit.coverage, 3),
        "board_turned_deg": round(fit.turn_deg, 1),
        "pictures": fit.rms_of,
        "left_out": list(fit.left_out),
        "warnings": fit.warnings,
    }


def _tell(target: Path, found: Found, report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json({"robot": str(target), "pictures": found.pictures, "left_out": found.left_out, "measured": report})
        return
    for text in found.left_out:
        err.print(f"left out: {text}", highlight=False, markup=False, soft_wrap=True)
    for name, part in report.items():
        for source, rms in part["pictures"].items():
            err.print(f"{rms:7.3f} px  {source}", highlight=False, markup=False, soft_wrap=True)
        for text in part.get("left_out", ()):
            err.print(f"left out: {text}", highlight=False, markup=False, soft_wrap=True)
        numbers = ", ".join(f"{k} {v}" for k, v in part.items() if k not in ("pictures", "warnings", "left_out"))
        out.print(f"{name}: {numbers}", highlight=False, markup=False, soft_wrap=True)
        for text in part["warnings"]:
            err.print(f"shelfscan: {name}: {text}", highlight=False, markup=False, soft_wrap=True)
    out.print(f"{target}: written", highlight=False)
