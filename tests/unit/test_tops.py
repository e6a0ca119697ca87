"""Tops behind the front row, in pictures drawn for the purpose: what is there, what is not, and what can't be seen."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from shelfscan.adapters.units_file import load_units_model
from shelfscan.audit.units import top_odds
from shelfscan.bundle import load_bundle
from shelfscan.model.catalogue import Product
from shelfscan.model.geometry import Pose2D
from shelfscan.model.planogram import PlanogramLine
from shelfscan.model.scan import FRONT_X_M, FRONT_Z_M, FrontGrid, TopLook
from shelfscan.model.store import Aisle, Bay, Bin, Gondola, Shelf, Store
from shelfscan.model.viewing import base_on_face
from shelfscan.paths import shared_file
from shelfscan.perception.localise import GRID, FaceView
from shelfscan.perception.tops import top_looks
from shelfscan.perception.upright import upright_size

BOX = Product("A", "g", "a", "b", "c", 0.1, 0.09, 0.15, 2.0)
LINE = PlanogramLine("b", "A", 3, 1, 4)
SHELF = Shelf("S", 0.6, 0.5, 0.45, (Bin("b", 0.4, 0.33),))
STORE = Store("s", (Aisle("A", (Gondola("G", Pose2D(0, 1, 0), 0.5, 2.0, (Bay("B", 0, 1.0, (SHELF,)),)),)),))
PLACE = STORE.places["b"]
MODEL = load_units_model(shared_file("models", "units.json"))
STEP = BOX.depth_m + 0.004


def view_from(x_m: float) -> FaceView:
    robot = load_bundle(shared_file("maps", "demo")).robot
    head = max(robot.rig.heads, key=lambda h: h.rgb.T_base_optical[2, 3])
    w, h = upright_size(head.rgb)
    shape = (-(-h // GRID), -(-w // GRID))
    unknown = np.full(shape, np.nan, np.float32)
    gondola = STORE.aisles[0].gondolas[0]
    return FaceView(
        head,
        gondola,
        base_on_face(robot, x_m, 0.9) @ head.rgb.T_base_optical,
        gondola.face.matrix(),
        unknown,
        np.zeros((0, 3), np.float32),
        1.0,
        unknown,
        np.zeros(shape, bool),
    )


def picture_of(view: FaceView, filled: list[int]) -> np.ndarray:
    """Columns with so many items from the front on; each top has a border and a mark."""
    w, h = upright_size(view.head.rgb)
    out = np.full((h, w, 3), 170, np.uint8)
    for column, count in enumerate(filled):
        x = PLACE.x0_m + (column + 0.5) * 0.11
        for k in range(count):
            y, z = 0.014 + k * STEP, PLACE.z0_m + BOX.height_m
            for (x0, x1, y0, y1), colour in (
                ((-0.05, 0.05, 0.0, BOX.depth_m), (120, 70, 30)),
                ((-0.04, 0.04, 0.01, BOX.depth_m - 0.01), (210, 190, 60)),
                ((-0.03, 0.0, 0.03, 0.06), (30, 40, 160)),
            ):
                corners = np.array([[x + u, y + v, z] for u, v in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))])
                cv2.fillPoly(out, [view.to_pixels(corners).astype(np.int32)], colour)
    return out


def grid_of(view: FaceView) -> FrontGrid:
    depth = np.full((60, 100), -32768, np.int16)
    z0, z1 = int(PLACE.z0_m / FRONT_Z_M), int((PLACE.z0_m + BOX.height_m) / FRONT_Z_M)
    depth[z0:z1, int(0.4 / FRONT_X_M) : int(0.74 / FRONT_X_M)] = 14
    return FrontGrid("high", "G", 0, 0, float(view.eye_face_m[0]), float(view.eye_face_m[2]), depth)


def looks(filled: list[int], x_m: float = 0.55) -> dict[int, TopLook]:
    view = view_from(x_m)
    found = top_looks(view, picture_of(view, filled), grid_of(view), [PLACE], {"b": LINE}, {"A": BOX})
    return {t.column: t for t in found}


@pytest.mark.parametrize("x_m", [0.45, 0.55, 0.7])
def test_what_is_there_looks_like_the_first_and_what_is_not_does_not(x_m: float) -> None:
    filled = [4, 2, 1]
    found = looks(filled, x_m)
    assert set(found) == {0, 1, 2}
    for column, look in found.items():
        odds = [top_odds(v, MODEL) for v in look.tops if v is not None]
        assert len(odds) == 3
        assert [o > 0 for o in odds] == [k < filled[column] - 1 for k in range(3)]


def test_a_camera_that_is_not_above_sees_no_tops() -> None:
    view = view_from(0.55)
    moved = np.eye(4)
    moved[2, 3] = -0.8
    assert top_looks(view.moved(moved), picture_of(view, [4, 4, 4]), grid_of(view), [PLACE], {"b": LINE}, {"A": BOX}) == []


def test_what_is_hidden_is_not_judged() -> None:
    view = view_from(0.55)
    view.hidden[:] = True
    assert top_looks(view, picture_of(view, [4, 4, 4]), grid_of(view), [PLACE], {"b": LINE}, {"A": BOX}) == []


def test_a_top_look_keeps_through_json() -> None:
    from shelfscan.model.scan import BayScan

    look = TopLook("b", 1, "high", 0.014, ((1.0, 0.2, -0.1), None))
    scan = BayScan("m", "v", "c", 1, (), (), (), (), tops=(look,))
    assert BayScan.from_json(scan.to_json()) == scan
