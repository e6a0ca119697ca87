"""``shelfscan calibrate`` recovers known cameras from drawn views of the board, and refuses views that cannot tell."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from fakes.board_views import BOARD, Draughtsman, board_poses, in_camera, lens_like, save, turned, write_robot
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from shelfscan.calibration.board import Board
from shelfscan.calibration.corners import Picture, coverage, find_board
from shelfscan.calibration.intrinsics import fit_lens
from shelfscan.calibration.pair import rectification
from shelfscan.calibration.placing import board_in_base
from shelfscan.cli.main import app
from shelfscan.errors import BadInput
from shelfscan.model.geometry import Array, apply, inverse, transform
from shelfscan.model.imaging import Intrinsics
from shelfscan.robotfile import optical_rotation, pose_difference, read_robot

RMS_PX, FX_SHARE, PLACE_M, PLACE_DEG = 0.3, 0.003, 0.003, 0.2


def invoke(*args: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["calibrate", *(str(a) for a in args)], catch_exceptions=True)
    if code != 2:
        assert result.exit_code == code, f"{result.output}\n{result.exception}"
        return json.loads(result.stdout)
    assert isinstance(result.exception, BadInput), result.output
    return "\n".join(result.exception.problems)


@dataclass
class Rig:
    """True cameras: ``lens`` and ``T_base_camera`` by (head, camera)."""

    lens: dict[tuple[str, str], Intrinsics]
    T_base_camera: dict[tuple[str, str], Array]

    def draw(
        self, folder: Path, boards: dict[str, Array], pen: Draughtsman, cameras: list[tuple[str, str]] | None = None
    ) -> None:
        for key, T_base_board in boards.items():
            for head, camera in cameras or list(self.lens):
                T = in_camera(self.T_base_camera[head, camera], T_base_board)
                save(folder, f"{head}-{camera}-{key}", pen.draw(self.lens[head, camera], T))


def true_rig(robot: Path, seed: int, *, distorted: bool) -> Rig:
    """What the robot in the file is in truth: each pose some millimetres and half a degree off, each lens its own."""
    rng = np.random.default_rng([seed, 9])
    lenses: dict[tuple[str, str], Intrinsics] = {}
    poses: dict[tuple[str, str], Array] = {}
    for head in read_robot(robot).rig.heads:
        off = transform(turned(tuple(rng.uniform(-1.5, 1.5, 3))), rng.uniform(-0.012, 0.012, 3))
        T_left = head.left.T_base_optical @ off
        if distorted:
            lenses[head.name, "left"] = lens_like(head.left.intrinsics, rng, distorted=True)
            lenses[head.name, "right"] = lens_like(head.left.intrinsics, rng, distorted=True)
            T_left_right = transform(turned(tuple(rng.uniform(-0.7, 0.7, 3))), np.array([0.0985, 0.001, -0.0012]))
        else:
            # Rectified pictures: one lens, one direction.
            lenses[head.name, "left"] = lenses[head.name, "right"] = lens_like(head.left.intrinsics, rng, distorted=False)
            T_left_right = transform(np.eye(3), np.array([0.0985, 0.0, 0.0]))
        lenses[head.name, "rgb"] = lens_like(head.rgb.intrinsics, rng, distorted=distorted)
        T_left_rgb = transform(turned(tuple(rng.uniform(-0.8, 0.8, 3))), np.array([0.052, 0.027, 0.001]))
        poses[head.name, "left"] = T_left
        poses[head.name, "right"] = T_left @ T_left_right
        poses[head.name, "rgb"] = T_left @ T_left_rgb
    return Rig(lenses, poses)


def boards_before(rig: Rig, head: str, count: int, seed: int) -> dict[str, Array]:
    """Boards held before one head, in ``base``, by key."""
    T = rig.T_base_camera[head, "left"]
    return {f"{head}{n:02d}": T @ pose for n, pose in enumerate(board_poses(count, seed))}


def boards_between(count: int, seed: int) -> dict[str, Array]:
    """Boards on a stand to the robot's left, which both heads see; in ``base``."""
    rng = np.random.default_rng([seed, 3])
    facing = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # x along base x, y down, z away from the robot
    w, h = BOARD.size_m
    out = {}
    for n in range(count):
        R = turned(tuple(rng.uniform(-20, 20, 3))) @ facing
        middle = np.array([rng.uniform(-0.08, 0.08), rng.uniform(0.75, 0.95), rng.uniform(0.75, 0.9)])
        out[f"stand{n}"] = transform(R, middle - R @ np.array([w / 2, h / 2, 0]))
    return out


@pytest.fixture(scope="module")
def raw_head(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Rig, Path]:
    """A head whose pictures are not rectified, measured from the command line: (given file, measured file, truth, pictures)."""
    root = tmp_path_factory.mktemp("raw")
    given = write_robot(root / "robot.yaml", width=800, height=500)
    rig = true_rig(given, 4, distorted=True)
    rig.draw(root / "pictures", boards_before(rig, "low", 16, 2), Draughtsman(seed=2))
    measured = root / "measured.yaml"
    invoke("intrinsics", root / "pictures", "--robot", given, "--out", measured, "--raw", "--json")
    invoke("stereo", root / "pictures", "--robot", measured, "--raw", "--camera-info", root / "info", "--json")
    return given, measured, rig, root / "pictures"


@pytest.fixture(scope="module")
def two_heads(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Rig, Path]:
    """Two heads of rectified pairs, lenses and pairs measured: (given file, measured file, truth, folder)."""
    root = tmp_path_factory.mktemp("two")
    given = write_robot(root / "robot.yaml", heads=2, width=800, height=500)
    rig = true_rig(given, 6, distorted=False)
    pen = Draughtsman(seed=3)
    for name in ("low", "high"):
        cameras = [(name, c) for c in ("left", "right", "rgb")]
        rig.draw(root / "lenses", boards_before(rig, name, 12, 3), pen, cameras)
    rig.draw(root / "stand", boards_between(5, 1), pen)
    measured = root / "measured.yaml"
    invoke("intrinsics", root / "lenses", "--robot", given, "--out", measured, "--json")
    invoke("stereo", root / "lenses", "--robot", measured, "--json")
    return given, measured, rig, root


def test_raw_lenses_are_recovered(raw_head: tuple[Path, Path, Rig, Path]) -> None:
    _, measured, rig, _ = raw_head
    head = yaml.safe_load(measured.read_text())["heads"][0]
    for camera, raw in (*head["stereo"]["raw"].items(), ("rgb", head["rgb"]["raw"])):
        if camera == "T_left_right":
            continue
        true = rig.lens["low", camera]
        print(f"{camera}: fx {raw['fx_px'] / true.fx_px - 1:+.4%}, rms {raw['rms_px']:.3f} px")
        assert raw["rms_px"] <= RMS_PX
        assert abs(raw["fx_px"] / true.fx_px - 1) <= FX_SHARE
        assert abs(raw["fy_px"] / true.fy_px - 1) <= FX_SHARE
        assert abs(raw["cx_px"] - true.cx_px) < 1.5
        assert abs(raw["distortion"][0] - true.distortion[0]) < 0.02


def test_raw_pair_and_rgb_camera_are_recovered(raw_head: tuple[Path, Path, Rig, Path]) -> None:
    given, measured, rig, _ = raw_head
    head = yaml.safe_load(measured.read_text())["heads"][0]
    true = inverse(rig.T_base_camera["low", "left"]) @ rig.T_base_camera["low", "right"]
    pose = head["stereo"]["raw"]["T_left_right"]
    got = transform(Rotation.from_quat(pose["rotation_xyzw"]).as_matrix(), np.array(pose["translation_m"]))
    off_m, off_deg = pose_difference(true, got)
    print(f"right camera: {off_m * 1000:.2f} mm, {off_deg:.3f} degrees; rows {head['stereo']['epipolar_rms_px']:.3f} px")
    assert off_m <= PLACE_M
    assert off_deg <= PLACE_DEG
    assert head["stereo"]["epipolar_rms_px"] <= RMS_PX
    # The RGB camera's place is told from the rectified left camera's frame.
    lens, _, baseline_m = rectification(rig.lens["low", "left"], rig.lens["low", "right"], true)
    info = yaml.safe_load((measured.parent / "info" / "low_left.yaml").read_text())
    turn = np.array(info["rectification_matrix"]["data"]).reshape(3, 3)
    true_rgb = transform(turn, np.zeros(3)) @ inverse(rig.T_base_camera["low", "left"]) @ rig.T_base_camera["low", "rgb"]
    model = read_robot(measured).rig.heads[0]
    off_m, off_deg = pose_difference(true_rgb, inverse(model.left.T_base_optical) @ model.rgb.T_base_optical)
    print(f"rgb camera: {off_m * 1000:.2f} mm, {off_deg:.3f} degrees")
    assert off_m <= PLACE_M
    assert off_deg <= PLACE_DEG
    assert abs(model.baseline_m - baseline_m) < 0.0005
    assert abs(model.left.intrinsics.fx_px / lens.fx_px - 1) < 0.005
    assert read_robot(given).rig.heads[0].baseline_m == pytest.approx(0.1), "the given file must stay as it was"


def test_camera_info_files_rectify(raw_head: tuple[Path, Path, Rig, Path]) -> None:
    """What the files say, applied to pictures never used before, puts corners into one row."""
    _, measured, rig, _ = raw_head
    pen = Draughtsman(seed=77)
    T_left = rig.T_base_camera["low", "left"]
    pixels = {}
    for camera in ("left", "right"):
        info = yaml.safe_load((measured.parent / "info" / f"low_{camera}.yaml").read_text())
        K, R, P = (np.array(info[f"{n}_matrix"]["data"]).reshape(3, -1) for n in ("camera", "rectification", "projection"))
        d = np.array(info["distortion_coefficients"]["data"])
        raw = pen.draw(rig.lens["low", camera], in_camera(rig.T_base_camera["low", camera], T_left @ board_poses(9, 50)[4]))
        maps = cv2.initUndistortRectifyMap(K, d, R, P[:, :3], (info["image_width"], info["image_height"]), cv2.CV_32FC1)
        view = find_board(
            [Picture("low", camera, "0", np.asarray(cv2.remap(raw, *maps, cv2.INTER_LINEAR)), camera)], BOARD
        ).views[0]
        pixels[camera] = dict(zip(view.ids.tolist(), view.pixels, strict=True))
    shared = sorted(set(pixels["left"]) & set(pixels["right"]))
    assert len(shared) > 20
    off = np.array([pixels["left"][i] - pixels["right"][i] for i in shared])
    assert np.sqrt((off[:, 1] ** 2).mean()) < 0.5
    assert (off[:, 0] > 20).all()


def test_raw_check_holds(raw_head: tuple[Path, Path, Rig, Path]) -> None:
    _, measured, _, pictures = raw_head
    said = invoke("check", measured, pictures, "--raw", "--json")
    assert said["ok"]
    assert {c["what"] for c in said["checks"]} >= {"low/left lens", "low rows of the pair", "low scale of the pair"}


def test_rectified_heads_are_placed_by_known_boards(two_heads: tuple[Path, Path, Rig, Path]) -> None:
    _, measured, rig, root = two_heads
    with (root / "boards.csv").open("w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["key", "x_m", "y_m", "z_m", "roll_deg", "pitch_deg", "yaw_deg"])
        for key, T in boards_between(5, 1).items():
            T_base_middle = T @ inverse(BOARD.T_centre_board)
            writer.writerow(
                [key, *T_base_middle[:3, 3], *Rotation.from_matrix(T_base_middle[:3, :3]).as_euler("xyz", degrees=True)]
            )
    target = root / "placed.yaml"
    said = invoke("extrinsics", root / "stand", "--robot", measured, "--out", target, "--boards", root / "boards.csv", "--json")
    for head in read_robot(target).rig.heads:
        for camera in ("left", "right", "rgb"):
            off_m, off_deg = pose_difference(rig.T_base_camera[head.name, camera], getattr(head, camera).T_base_optical)
            print(f"{head.name}/{camera}: {off_m * 1000:.2f} mm, {off_deg:.3f} degrees")
            assert off_m <= PLACE_M
            assert off_deg <= PLACE_DEG
        assert abs(head.baseline_m - 0.0985) < 0.0005
        assert abs(head.left.intrinsics.fx_px / rig.lens[head.name, "left"].fx_px - 1) <= FX_SHARE
        assert said["measured"][head.name]["rms_px"] <= RMS_PX


def test_the_other_head_follows_the_reference(two_heads: tuple[Path, Path, Rig, Path]) -> None:
    _, measured, rig, root = two_heads
    data = yaml.safe_load(measured.read_text())
    T = rig.T_base_camera["low", "left"]
    data["heads"][0]["T_base_camera"] = {
        "translation_m": [float(v) for v in T[:3, 3]],
        "rotation_xyzw": [float(v) for v in Rotation.from_matrix(T[:3, :3]).as_quat()],
    }
    begun = root / "begun.yaml"
    begun.write_text(yaml.safe_dump(data))
    invoke("extrinsics", root / "stand", "--robot", begun, "--reference", "low", "--json")
    high = read_robot(begun).rig.head("high")
    off_m, off_deg = pose_difference(rig.T_base_camera["high", "left"], high.left.T_base_optical)
    print(f"high by low: {off_m * 1000:.2f} mm, {off_deg:.3f} degrees")
    assert off_m <= PLACE_M
    assert off_deg <= PLACE_DEG


def test_check_finds_a_knocked_camera(two_heads: tuple[Path, Path, Rig, Path], tmp_path: Path) -> None:
    _, measured, rig, root = two_heads
    pen = Draughtsman(seed=11)
    boards = boards_between(3, 20)
    robot = tmp_path / "robot.yaml"
    robot.write_text(measured.read_text())
    invoke("extrinsics", root / "stand", "--robot", robot, "--board-pose", "0,0.85,0.8,0,0,-90", "--json", code=2)
    with (tmp_path / "boards.csv").open("w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["key", "x_m", "y_m", "z_m", "roll_deg", "pitch_deg", "yaw_deg"])
        for key, T in boards_between(5, 1).items():
            M = T @ inverse(BOARD.T_centre_board)
            writer.writerow([key, *M[:3, 3], *Rotation.from_matrix(M[:3, :3]).as_euler("xyz", degrees=True)])
    invoke("extrinsics", root / "stand", "--robot", robot, "--boards", tmp_path / "boards.csv", "--json")
    rig.draw(tmp_path / "good", boards, pen)
    assert invoke("check", robot, tmp_path / "good", "--json")["ok"]
    T_right = rig.T_base_camera["low", "right"] @ transform(turned((0.4, 0.0, 0.0)), np.zeros(3))
    knocked = replace(rig, T_base_camera={**rig.T_base_camera, ("low", "right"): T_right})
    knocked.draw(tmp_path / "knocked", boards, pen)
    said = invoke("check", robot, tmp_path / "knocked", "--json", code=1)
    assert [c["what"] for c in said["checks"] if not c["ok"]] == ["low rows of the pair"]
    up = {k: transform(np.eye(3), np.array([0, 0, 0.03])) @ T if k[0] == "high" else T for k, T in rig.T_base_camera.items()}
    replace(rig, T_base_camera=up).draw(tmp_path / "moved", boards, pen)
    said = invoke("check", robot, tmp_path / "moved", "--json", code=1)
    assert [c["what"] for c in said["checks"] if not c["ok"]] == ["high and low board apart"]


# -- what cannot be measured ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one_camera(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Intrinsics, Draughtsman]:
    robot = write_robot(tmp_path_factory.mktemp("one") / "robot.yaml", width=640, height=400)
    return robot, read_robot(robot).rig.heads[0].rgb.intrinsics, Draughtsman(seed=5)


def draw_all(folder: Path, lens: Intrinsics, poses: list[Array], pen: Draughtsman, **kw: float) -> None:
    for n, T in enumerate(poses):
        save(folder, f"low-rgb-{n:02d}", pen.draw(lens, T, **kw))


def test_too_few_pictures(one_camera: tuple[Path, Intrinsics, Draughtsman], tmp_path: Path) -> None:
    robot, lens, pen = one_camera
    draw_all(tmp_path / "p", lens, board_poses(4, 1), pen)
    before = robot.read_bytes()
    assert "low/rgb: 4 usable pictures of the board; at least 8" in invoke(
        "intrinsics", tmp_path / "p", "--robot", robot, code=2
    )
    assert robot.read_bytes() == before


def test_all_at_one_angle(one_camera: tuple[Path, Intrinsics, Draughtsman], tmp_path: Path) -> None:
    robot, lens, pen = one_camera
    draw_all(tmp_path / "p", lens, board_poses(9, 1, tilt_deg=1.0), pen)
    assert "at about one angle in all 9 pictures" in invoke("intrinsics", tmp_path / "p", "--robot", robot, code=2)


def test_another_board_than_described(one_camera: tuple[Path, Intrinsics, Draughtsman], tmp_path: Path) -> None:
    robot, lens, pen = one_camera
    draw_all(tmp_path / "p", lens, board_poses(9, 1), pen)
    for text, why in (
        ("5,4,0.040,0.030,DICT_5X5_100", "not on such a board of 10"),
        ("9,6,0.040,0.030,DICT_4X4_50", "found in none of 9 pictures"),
        ("11,8,0.040,0.030,DICT_5X5_100", "not as they lie on such a board"),
    ):
        assert why in invoke("intrinsics", tmp_path / "p", "--robot", robot, "--board", text, code=2)


def test_blurred_and_empty_pictures_are_left_out_and_named(
    one_camera: tuple[Path, Intrinsics, Draughtsman], tmp_path: Path
) -> None:
    robot, lens, pen = one_camera
    draw_all(tmp_path / "p", lens, board_poses(10, 1, far_m=0.5), pen)
    near = board_poses(1, 8, near_m=0.3, far_m=0.31)[0]
    save(tmp_path / "p", "low-rgb-moved", np.asarray(cv2.blur(pen.draw(lens, near), (1, 7))))
    save(tmp_path / "p", "low-rgb-empty", np.full((400, 640), 90, np.uint8))
    target = tmp_path / "out.yaml"
    said = invoke("intrinsics", tmp_path / "p", "--robot", robot, "--out", target, "--json")
    assert len(said["left_out"]) == 2
    assert any("low-rgb-moved.png: blurred" in x for x in said["left_out"])
    assert any("low-rgb-empty.png: no marker" in x for x in said["left_out"])
    assert said["measured"]["low/rgb"]["rms_px"] <= RMS_PX


def test_pictures_of_another_size(one_camera: tuple[Path, Intrinsics, Draughtsman], tmp_path: Path) -> None:
    robot, lens, pen = one_camera
    draw_all(tmp_path / "p", lens, board_poses(8, 1), pen)
    turned_picture = np.rot90(pen.draw(lens, board_poses(8, 1)[0]))
    save(tmp_path / "p", "low-rgb-90", np.ascontiguousarray(turned_picture))
    said = invoke("intrinsics", tmp_path / "p", "--robot", robot, code=2)
    assert "low-rgb-90.png: 400x640; robot.yaml says 640x400" in said
    assert "turned?" in said


@pytest.mark.parametrize(
    ("name", "why"),
    [("0001", "says neither head nor camera"), ("low-middle-1", "says neither"), ("top-left-1", "no head 'top'")],
)
def test_names_that_say_nothing(one_camera: tuple[Path, Intrinsics, Draughtsman], tmp_path: Path, name: str, why: str) -> None:
    save(tmp_path / "p", name, np.zeros((40, 60), np.uint8))
    assert why in invoke("intrinsics", tmp_path / "p", "--robot", one_camera[0], code=2)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("9,6,0.04,0.03", "4 values"),
        ("9,6,a,0.03,DICT_5X5_100", "not numbers"),
        ("9,6,0.04,0.05,DICT_5X5_100", "markers of 30 to 99 %"),
        ("9,6,0.04,0.03,DICT_9X9", "no dictionary"),
        ("30,30,0.04,0.03,DICT_5X5_100", "450 markers are needed"),
        ("1,6,0.04,0.03,DICT_5X5_100", "3 to 40"),
    ],
)
def test_a_board_that_is_none(text: str, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        Board.parse(text)


def test_swapped_cameras_are_told(raw_head: tuple[Path, Path, Rig, Path], tmp_path: Path) -> None:
    given, _, _, pictures = raw_head
    for p in pictures.iterdir():
        name = p.name.replace("left", "tmp").replace("right", "left").replace("tmp", "right")
        (tmp_path / name).write_bytes(p.read_bytes())
    robot = tmp_path / "robot.yaml"
    invoke("intrinsics", tmp_path, "--robot", given, "--out", robot, "--raw", "--json")
    assert "left and right swapped?" in invoke("stereo", tmp_path, "--robot", robot, "--raw", code=2)


def test_raw_pictures_taken_for_rectified_ones(raw_head: tuple[Path, Path, Rig, Path], tmp_path: Path) -> None:
    given, _, _, pictures = raw_head
    said = invoke("stereo", pictures, "--robot", given, "--out", tmp_path / "x.yaml", code=2)
    assert "are these pictures rectified? If not, pass --raw" in said
    assert not (tmp_path / "x.yaml").exists()


# -- the board ------------------------------------------------------------------------------------------------------


def test_the_printed_board_has_its_scale(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["calibrate", "board", "--out", str(tmp_path / "b.png"), "--pdf", "--paper", "a3"])
    assert result.exit_code == 0, result.output
    page = cv2.imread(str(tmp_path / "b.png"), cv2.IMREAD_GRAYSCALE)
    assert page.shape == (3508, 4961)  # A3 at 300 dpi
    views = find_board([Picture("low", "left", "0", np.asarray(page), "b.png")], BOARD).views
    corners = dict(zip(views[0].ids.tolist(), views[0].pixels, strict=True))
    side_mm = np.linalg.norm(corners[7] - corners[0]) / 7 / 300 * 25.4
    assert side_mm == pytest.approx(40.0, abs=0.02)
    pdf = (tmp_path / "b.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    box = [float(v) for v in pdf.split(b"/MediaBox [")[1].split(b"]")[0].split()]
    assert box[2] / 72 * 25.4 == pytest.approx(420, abs=0.2)


def test_a_board_larger_than_the_paper() -> None:
    with pytest.raises(BadInput, match="--paper a4: the board with its margins needs"):
        BOARD.page(paper="a4")


def test_an_upright_board_to_the_robots_left() -> None:
    """By hand: 1 m to the left, yaw -90: its first corner is the upper one towards the robot's back."""
    T = board_in_base((0.0, 1.0, 0.9), (0.0, 0.0, -90.0), BOARD)
    corner = apply(T, np.zeros(3))
    assert corner == pytest.approx([-0.18, 1.0, 0.9 + 0.12])
    # Seen by a camera that looks left and is not turned: right is forward, down is down, and the board is before it.
    camera = transform(optical_rotation(np.pi / 2, 0.0, 0), np.array([0.0, 0.05, 0.9]))
    assert in_camera(camera, T)[:3, :3] == pytest.approx(np.eye(3), abs=1e-9)


def test_coverage_counts_cells() -> None:
    pen = Draughtsman(seed=1)
    lens = Intrinsics(640, 400, 400.0, 400.0, 319.5, 199.5)
    views = find_board([Picture("low", "rgb", "0", pen.draw(lens, board_poses(5, 1)[4]), "x")], BOARD).views
    assert 0.02 < coverage(views) < 0.5
    with pytest.raises(BadInput, match="1 usable pictures"):
        fit_lens("low/rgb", views, BOARD, lens, rectified=True)
