"""The condition of goods: how a crop is turned, what depth says of lying and pushed-back ones, and when nothing is said."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import date
from typing import Any

import cv2
import numpy as np
import pytest
from fakes.captures import capture
from fakes.packages import Thumbnail, families
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfscan.audit.condition import Trouble, off_row, troubles
from shelfscan.audit.lying import lying
from shelfscan.audit.match import Seen, match_bin
from shelfscan.errors import BadInput
from shelfscan.model.catalogue import Product
from shelfscan.model.detections import Candidate
from shelfscan.model.front import FaceFront
from shelfscan.model.imaging import Rgb
from shelfscan.model.planogram import PlanogramLine
from shelfscan.model.scan import FRONT_X_M, FRONT_Z_M, PlaceCheck
from shelfscan.model.store import BinPlace
from shelfscan.perception.damage import SUSPECT, anomalies, reference_of
from shelfscan.perception.dates import ExpiryReading, days_until
from shelfscan.perception.looks import PlannedLook
from shelfscan.perception.orientation import Turn, in_doubt, turns
from shelfscan.perception.place_checks import PlaceChecker
from shelfscan.perception.recognise import AS_IS, Detail, Gallery, Recogniser

PACKS = [p for f in families(6) for p in f]
CLOCKWISE = [Turn.UPRIGHT, Turn.RIGHT, Turn.UPSIDE_DOWN, Turn.LEFT]

BOX = Product("BOX", "", "box", "b", "c", 0.10, 0.08, 0.20, 2.0)
#: On its back it is as high as what the fronts below show low.
WIDE = replace(BOX, depth_m=0.10, width_m=0.13)
CATALOGUE = {"BOX": BOX, "OTHER": replace(BOX, sku="OTHER")}
LINE = PlanogramLine("B", "BOX", 3, 1, 5)
PLACE = BinPlace("B", "S", "Y", "G", "A", 0.10, 0.42, 0.40, 0.70, 0.45, np.eye(4))
PITCH = (PLACE.x1_m - PLACE.x0_m) / LINE.facings_wide


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    return Recogniser(Thumbnail(), Gallery.build(Thumbnail(), {f"S{i:02d}": [p] for i, p in enumerate(PACKS)}, AS_IS))


@settings(max_examples=30, deadline=None)
@given(pack=st.integers(0, len(PACKS) - 1), first=st.integers(0, 3), more=st.integers(0, 3))
def test_turning_a_crop_turns_the_answer(recogniser: Recogniser, pack: int, first: int, more: int) -> None:
    def answer(quarters: int) -> Turn:
        crop: Rgb = np.ascontiguousarray(np.rot90(PACKS[pack], -quarters))
        return turns(recogniser, [crop], [f"S{pack:02d}"])[0]

    one = answer(first)
    if one is Turn.OTHER_SIDE:
        assert answer(first + more) is Turn.OTHER_SIDE
    else:
        assert answer(first + more) is CLOCKWISE[(CLOCKWISE.index(one) + more) % 4]


def test_a_pack_is_known_as_it_stands_and_a_plain_side_is_not(recogniser: Recogniser) -> None:
    sure = [turns(recogniser, [p], [f"S{i:02d}"])[0] for i, p in enumerate(PACKS)]
    assert sure.count(Turn.UPRIGHT) >= 0.8 * len(PACKS)
    plain = np.full((90, 50, 3), 140, np.uint8)
    assert turns(recogniser, [plain, plain], ["S00", "not enrolled"]) == [Turn.OTHER_SIDE] * 2
    assert turns(recogniser, [], []) == []


def test_only_what_looks_like_nothing_is_in_doubt() -> None:
    assert in_doubt([Candidate("A", 0.4), Candidate("B", 0.1)])
    assert not in_doubt([Candidate("A", 0.9), Candidate("B", 0.1)])


def front(*columns_m: float, head_m: float | None = None) -> FaceFront:
    """Three columns with these depths; ``head_m``: the depth 11 cm and more above the shelf, where it differs."""
    depth = np.full((60, 60), 0.44, np.float32)
    for c, d in enumerate(columns_m):
        x0, x1 = round((PLACE.x0_m + c * PITCH) * 100), round((PLACE.x0_m + (c + 1) * PITCH) * 100)
        depth[:, x0:x1] = d
    if head_m is not None:
        depth[round((PLACE.z0_m + 0.11) * 50) :] = head_m
    return FaceFront(depth)


def box(column: int, depth_m: float, score: float, width_m: float = 0.10) -> Seen:
    x = PLACE.x0_m + (column + 0.5) * PITCH
    return Seen(f"o{column}", (x, depth_m, 0.50), (width_m, 0.20), 0.8, (Candidate("BOX", score),), 2)


def check(column: int, score: float, turn: str = "", damage: float = 0.0, depth_m: float = 0.014) -> PlaceCheck:
    candidates = (Candidate("BOX", score), Candidate("OTHER", 0.1))
    return PlaceCheck("B", column, 0, "low", depth_m, 0.9, candidates, turn, damage)


def told(seen: list[Seen], face: FaceFront, checks: list[PlaceCheck]) -> dict[str, Trouble]:
    match = match_bin(PLACE, LINE, CATALOGUE, seen, face, checks)
    return {t.kind: t for t in troubles(PLACE, LINE, CATALOGUE, match, checks, damage_from=1.0)}


def test_what_stands_as_planned_has_no_trouble() -> None:
    checks = [check(c, 0.9) for c in range(3)]
    assert told([box(c, 0.014, 0.9) for c in range(3)], front(0.014, 0.014, 0.014), checks) == {}


@pytest.mark.parametrize("how", ["other_side", "upside_down"])
def test_a_turned_item_is_told_and_counts_as_planned(how: str) -> None:
    checks = [check(0, 0.9), check(1, 0.05, how), check(1, 0.04, how), check(2, 0.9)]
    seen = [box(c, 0.014, 0.9 if c != 1 else 0.05) for c in range(3)]
    face = front(0.014, 0.014, 0.014)
    found = told(seen, face, checks)
    assert set(found) == {"turned"} and "column 2" in found["turned"].suggestion
    assert all(p.planned for p in match_bin(PLACE, LINE, CATALOGUE, seen, face, checks).placed)


def test_one_look_that_knows_it_or_a_wrong_size_is_no_turned_item() -> None:
    face = front(0.014, 0.014, 0.014)
    seen = [box(c, 0.014, 0.3) for c in range(3)]
    assert told(seen, face, [check(1, 0.05, "other_side"), check(1, 0.8)]) == {}
    slim = [box(c, 0.014, 0.05, width_m=0.05) for c in range(3)]
    assert told(slim, face, [check(1, 0.05, "other_side")]) == {}


def test_a_turned_item_without_a_box_is_told_by_two_looks_where_depth_shows_its_height() -> None:
    """The detector finds few backs. What is lower than the product, or was seen once, may be something else."""
    both = [check(0, 0.9), check(1, 0.05, "other_side"), check(1, 0.04, "other_side"), check(2, 0.9)]
    seen = [box(c, 0.014, 0.9) for c in (0, 2)]
    face = front(0.014, 0.014, 0.014)
    assert "column 2" in told(seen, face, both)["turned"].suggestion
    assert told(seen, face, [both[0], both[1], both[3]]) == {}
    low = np.array(face.depth_m)
    x0, top = PLACE.x0_m + PITCH, PLACE.z0_m + 0.7 * BOX.height_m
    low[round(top / FRONT_Z_M) :, round(x0 / FRONT_X_M) : round((x0 + PITCH) / FRONT_X_M)] = 0.10
    assert told(seen, FaceFront(low), both) == {}
    low[round(top / FRONT_Z_M) :, round(x0 / FRONT_X_M) : round((x0 + PITCH) / FRONT_X_M)] = math.nan
    assert told(seen, FaceFront(low), both) == {}


def test_behind_a_thin_pack_on_its_side_the_next_one_stands_right_there() -> None:
    thin, x = replace(BOX, depth_m=0.045), PLACE.x0_m + 0.5 * PITCH
    aside = lying(front(0.05, 0.05, 0.05, head_m=0.095), thin, x, PLACE.z0_m)
    assert aside is not None and aside.aside and aside.deep_m == 0.045
    # A bag's top leans back by half of its depth.
    assert lying(front(0.05, 0.05, 0.05, head_m=0.075), thin, x, PLACE.z0_m) is None
    assert lying(front(0.05, 0.05, 0.05, head_m=0.095), replace(BOX, depth_m=0.08), x, PLACE.z0_m) is None


def test_what_is_low_with_nothing_behind_its_head_lies() -> None:
    x = PLACE.x0_m + 0.5 * PITCH
    down = lying(front(0.05, 0.05, 0.05, head_m=0.3), WIDE, x, PLACE.z0_m)
    assert down is not None and not down.aside
    # On its back: as high as the box is deep, as deep as it is high.
    assert (down.front_m, down.tall_m, down.deep_m) == (pytest.approx(0.05), 0.10, 0.20)
    assert down.centre(0.4) == pytest.approx((x, 0.15, 0.45))
    assert "fallen" in told([], front(0.05, 0.05, 0.05, head_m=0.3), [])
    assert lying(front(0.05, 0.05, 0.05), BOX, x, PLACE.z0_m) is None
    # A head that leans back a little is a bottle's shoulder; one that was not measured is nothing.
    assert lying(front(0.05, 0.05, 0.05, head_m=0.09), BOX, x, PLACE.z0_m) is None
    assert lying(front(0.05, 0.05, 0.05, head_m=math.nan), BOX, x, PLACE.z0_m) is None
    # A can is little taller standing than lying; a cube not at all.
    can = replace(BOX, width_m=0.1, depth_m=0.1, height_m=0.14)
    assert lying(front(0.05, 0.05, 0.05, head_m=0.3), can, x, PLACE.z0_m) is not None
    assert lying(front(0.05, 0.05, 0.05, head_m=0.3), replace(BOX, height_m=0.1), x, PLACE.z0_m) is None
    # The board's edge before goods that were pushed back is no item.
    assert lying(front(-0.01, -0.01, -0.01, head_m=0.3), BOX, x, PLACE.z0_m) is None


def test_something_that_stands_where_an_item_would_lie_leaves_it_no_room() -> None:
    """Goods 13 cm behind: no room for 20 cm along the depth, but for an item on its side along the shelf."""
    x = PLACE.x0_m + 0.5 * PITCH
    slim = replace(BOX, width_m=0.17)
    assert lying(front(0.05, 0.05, 0.05, head_m=0.18), slim, x, PLACE.z0_m) is None
    aside = lying(front(0.05, 0.05, 0.05, head_m=0.18), BOX, x, PLACE.z0_m)
    assert aside is not None and aside.aside and (aside.tall_m, aside.deep_m) == (0.10, 0.08)


def test_an_item_along_the_shelf_is_one_and_what_stands_behind_counts() -> None:
    """It lies before two columns: one item, in its true middle, and in the other column what is behind it."""
    line = PlanogramLine("B", "BOX", 3, 1, 5)
    face = front(0.05, 0.05, 0.014, head_m=0.13)
    low = np.array(face.depth_m)
    low[:, round((PLACE.x0_m + 2 * PITCH) * 100) :] = 0.014
    match = match_bin(PLACE, line, CATALOGUE, [], FaceFront(low), [])
    down = [p for p in match.placed if p.down is not None]
    assert len(match.placed) == 3 and len(down) == 1 and down[0].down is not None
    assert down[0].down.x_m == pytest.approx(PLACE.x0_m + PITCH, abs=0.015)
    assert [p.face_m[1] for p in match.placed if p.column == 1] == [pytest.approx(0.13)]


def test_a_surface_of_many_depths_is_nothing_that_lies() -> None:
    """Neighbours' sides seen past an empty place, and a single row of cells, are near and low too."""
    x = PLACE.x0_m + 0.5 * PITCH
    face = front(0.05, 0.05, 0.05, head_m=0.3)
    ragged = np.array(face.depth_m)
    ragged[: round((PLACE.z0_m + 0.11) / FRONT_Z_M)] = np.linspace(0.02, 0.4, 60)[np.arange(60) * 37 % 60]
    assert lying(face, WIDE, x, PLACE.z0_m) is not None
    assert lying(FaceFront(ragged), WIDE, x, PLACE.z0_m) is None
    one_row = np.array(face.depth_m)
    one_row[round((PLACE.z0_m + 0.04) / FRONT_Z_M) :] = 0.3
    assert lying(FaceFront(one_row), WIDE, x, PLACE.z0_m) is None


def test_what_is_low_before_a_bare_wall_lies_unless_something_was_boxed() -> None:
    """A bare wall has no depth. What the detector boxed there stands, and its head may have a hole in the depth."""
    x, bare = PLACE.x0_m + 0.5 * PITCH, front(0.05, 0.05, 0.05, head_m=math.nan)
    down = lying(bare, BOX, x, PLACE.z0_m, PLACE.depth_m, boxed=False)
    assert down is not None and math.isinf(down.behind_m)
    assert lying(bare, BOX, x, PLACE.z0_m, PLACE.depth_m, boxed=True) is None
    # The wall's own foot, where a little of it was measured.
    assert lying(front(0.4, 0.4, 0.4, head_m=math.nan), BOX, x, PLACE.z0_m, PLACE.depth_m, boxed=False) is None
    # Nothing is known of what is behind one that lies along the shelf, so that is no facing.
    match = match_bin(PLACE, LINE, CATALOGUE, [], front(0.25, 0.25, 0.44, head_m=math.nan), [])
    assert [(p.column, p.down is not None and p.down.aside) for p in match.placed] == [(0, True)]


def test_an_item_along_the_shelf_is_found_in_its_middle_beside_goods_as_near() -> None:
    """Its neighbour's front is as near as it is: it ends where the stretch that is as long as it does."""
    can = replace(BOX, width_m=0.064, depth_m=0.064, height_m=0.18)
    depth = np.full((60, 80), 0.12, np.float32)
    begin = 20
    depth[: round((PLACE.z0_m + 0.064) / FRONT_Z_M), begin : begin + 18] = 0.02
    depth[:, begin + 20 : begin + 30] = 0.02
    for gap in (None, begin + 5):
        if gap is not None:
            depth[:, gap : gap + 2] = 0.12
        down = lying(FaceFront(depth), can, (begin + 12.5) * FRONT_X_M, PLACE.z0_m, PLACE.depth_m)
        assert down is not None and down.aside
        assert down.x_m == pytest.approx((begin + 9) * FRONT_X_M, abs=0.011)


@given(rows=st.integers(0, 4), off_m=st.floats(-0.015, 0.015))
def test_a_front_that_sold_from_the_edge_was_not_pushed(rows: int, off_m: float) -> None:
    assert not off_row(0.014 + rows * BOX.depth_m + off_m, BOX)


def test_only_a_front_far_back_and_between_rows_is_pushed_back() -> None:
    assert set(told([], front(0.135, 0.135, 0.135), [])) == {"pushed_back"}
    assert told([], front(0.05, 0.05, 0.05), []) == {}
    assert told([], front(0.174, 0.174, 0.174), []) == {}
    assert told([], front(0.014, 0.135, 0.135), []) == {}


def test_shares_of_condition_are_shares() -> None:
    from shelfscan.sim.condition import Condition

    with pytest.raises(BadInput, match=r"fallen: 1\.5"):
        Condition(fallen=1.5)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_bad_condition_moves_no_item_into_another_and_the_truth_names_it(seed: int) -> None:
    from shelfscan.sim.condition import KINDS, Condition, extent, in_bad_condition
    from shelfscan.sim.layout import make_layout
    from shelfscan.sim.merchandise import merchandise
    from shelfscan.sim.packaging import make_packs
    from shelfscan.sim.stock import Messiness, stock_store

    packs = make_packs(seed, 40, "store")
    store, plan = merchandise(make_layout("tiny", seed).store, packs, seed)
    by_sku = {p.sku: p for p in packs}
    before, truths = stock_store(store, plan, by_sku, Messiness(), seed)
    assert in_bad_condition(store, by_sku, before, truths, Condition(), seed) == (before, truths, {})
    after, told_, damage = in_bad_condition(store, by_sku, before, truths, Condition(0.3, 0.5, 0.3), seed)
    assert [(t.units, t.facings, t.status) for t in told_] == [(t.units, t.facings, t.status) for t in truths]
    changed = {a.item_id: a for a, b in zip(after, before, strict=True) if a != b}
    assert set(damage.values()) <= set(KINDS) and not set(damage) & set(changed)
    lying = {i for i, a in changed.items() if abs(math.sin(a.roll_rad)) > 0.5 or abs(math.sin(a.pitch_rad)) > 0.5}
    effects = {e: {t.bin_id for t in told_ if e in t.effects} for e in ("fallen", "turned", "damaged")}
    of = {i.item_id: i.bin_id for i in after}
    assert effects["fallen"] == {of[i] for i in lying}
    assert effects["turned"] == {of[i] for i in set(changed) - lying}
    assert effects["damaged"] == {of[i] for i in damage}
    for i in lying:
        item = changed[i]
        place = store.places[item.bin_id]
        mine = extent(item, by_sku[item.sku], place)
        assert mine[2, 0] >= place.z0_m - 1e-4 and mine[1, 0] >= -1e-4 and mine[1, 1] <= place.depth_m
        for other in after:
            if other.bin_id == item.bin_id and other.item_id != i:
                theirs = extent(other, by_sku[other.sku], place)
                overlap = np.minimum(mine[:, 1], theirs[:, 1]) - np.maximum(mine[:, 0], theirs[:, 0])
                assert overlap.min() < 0.003


def test_a_scene_without_damage_is_written_as_it_always_was(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from shelfscan.sim.scene import Scene

    scene = Scene(1, "tiny", 0, {}, (), (), (), ())
    scene.save(tmp_path / "a.json")
    assert "damage" not in json.loads((tmp_path / "a.json").read_text())
    replace(scene, damage={"I1": "torn"}).save(tmp_path / "b.json")
    assert Scene.load(tmp_path / "b.json").damage == {"I1": "torn"}
    assert Scene.load(tmp_path / "a.json") == scene


def _front(n: int, damage: str = "") -> Rgb:
    """The front of a pack, as its texture has it, damaged or not."""
    from shelfscan.sim.artwork import FACES, pack_texture
    from shelfscan.sim.condition import damaged_texture
    from shelfscan.sim.packaging import make_packs

    texture = pack_texture(make_packs(4_000_000, 12, "tests")[n], 256)
    if damage:
        texture = damaged_texture(texture, damage, f"I{n}")
    x0, y0, x1, y1 = (round(f * 256) for f in FACES["front"])
    return np.ascontiguousarray(cv2.resize(texture[y0:y1, x0:x1], (130, 220), interpolation=cv2.INTER_AREA))


def _whole(crops: list[Rgb]) -> list[tuple[int, int]]:
    return [(0, len(c)) for c in crops]


@settings(max_examples=25, deadline=None)
@given(
    pack=st.integers(0, 11),
    light=st.floats(0.6, 1.15),
    shift=st.tuples(st.integers(-4, 4), st.integers(-6, 6)),
    neighbours=st.integers(0, 2),
)
def test_other_light_and_a_crop_a_little_off_are_no_damage(
    pack: int, light: float, shift: tuple[int, int], neighbours: int
) -> None:
    crop = np.clip(np.roll(_front(pack), shift, axis=(1, 0)) * light, 0, 255).astype(np.uint8)
    crops = [crop, *[_front(pack)] * neighbours]
    assert anomalies(crops, _whole(crops), [reference_of(Detail(_front(pack)))])[0] < SUSPECT


@pytest.mark.parametrize("kind", ["torn", "leaking"])
def test_most_torn_and_stained_packs_differ_from_their_kind(kind: str) -> None:
    found = 0
    for n in range(12):
        crops = [_front(n, kind), _front(n), _front(n)]
        differ = anomalies(crops, _whole(crops), [reference_of(Detail(_front(n)))])
        assert max(differ[1:]) < SUSPECT
        found += differ[0] >= SUSPECT
    assert found >= 5


def test_what_is_hidden_or_has_nothing_to_compare_with_is_not_judged() -> None:
    torn = _front(0, "torn")
    assert anomalies([torn], [(0, len(torn) // 3)], [reference_of(Detail(_front(0)))]) == [0.0]
    assert anomalies([torn], _whole([torn]), []) == [0.0]
    assert anomalies([], [], []) == []


def test_damage_is_told_when_every_look_says_so() -> None:
    face = front(0.014, 0.014, 0.014)
    seen = [box(c, 0.014, 0.9) for c in range(3)]
    found = told(seen, face, [check(1, 0.9, damage=1.6), check(1, 0.9, damage=1.4), check(0, 0.9, damage=0.2)])
    assert set(found) == {"damaged"} and "column 2" in found["damaged"].suggestion
    assert told(seen, face, [check(1, 0.9, damage=1.6), check(1, 0.9, damage=0.4)]) == {}


@pytest.mark.parametrize(
    ("iso", "days"),
    [("2026-03-08", 7), ("2026-02-27", -2), ("2026-03", 30), ("2027-03-01", 365), ("--03-02", None), ("", None)],
)
def test_days_until_a_date(iso: str, days: int | None) -> None:
    assert days_until(iso, date(2026, 3, 1)) == days


def test_a_near_date_is_told_once_and_not_when_it_was_read_as_two() -> None:
    face = front(0.014, 0.014, 0.014)
    seen = [box(c, 0.014, 0.9) for c in range(3)]
    dated = [replace(check(c, 0.9), near_expiry=d) for c, d in ((0, "2026-03-02"), (0, "2026-03-02"), (2, ""))]
    found = told(seen, face, dated)
    assert set(found) == {"near_expiry"} and "2026-03-02" in found["near_expiry"].suggestion
    assert told(seen, face, [*dated, replace(check(0, 0.9), near_expiry="2026-08-02")]) == {}


def test_dates_are_read_only_where_the_planned_product_is_seen_straight_on() -> None:
    asked: list[tuple[int, ...]] = []

    def read(crop: Rgb) -> ExpiryReading:
        asked.append(crop.shape)
        # The captures of the fake are of 14 November 2023.
        return ExpiryReading({100: "2023-11-16", 110: "2024-11-16", 120: "2023-11"}[len(crop)])

    def look(cosine: float, height: int) -> PlannedLook:
        return PlannedLook("B", 0, 0, 0.014, cosine, np.zeros((height, 90, 3), np.uint8), (0, height), 0.0)

    looks = [look(0.99, 100), look(0.99, 110), look(0.9, 100), look(0.99, 100), look(0.99, 60), look(0.99, 120)]
    known = (Candidate("BOX", 0.9),)
    named = [known, known, known, (Candidate("BOX", 0.2),), known, known]
    knows_nothing: Any = None
    checker = PlaceChecker({}, {}, knows_nothing, damage=False, dates=read, near_days=3)
    near = checker.near_expiry(capture(0), looks, ["BOX"] * 6, named)
    assert near == ["2023-11-16", "", "", "", "", ""]
    assert [s[0] for s in asked] == [100, 110, 120]
    silent = PlaceChecker({}, {}, knows_nothing, damage=False, dates=None, near_days=3)
    assert silent.near_expiry(capture(0), looks, ["BOX"] * 6, named) == [""] * 6
