"""Sizes that contradict the catalogue: told where plan or pictures say so, and never where they agree."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfscan.audit.sizes import corrected, planned_sizes, wrong_sizes
from shelfscan.audit.usual import WrongSize, usual_of
from shelfscan.model.catalogue import Product
from shelfscan.model.detections import Candidate
from shelfscan.model.front import FaceFront
from shelfscan.model.geometry import Pose2D
from shelfscan.model.planogram import PlanogramLine
from shelfscan.model.scan import BayScan, FrontGrid, Observation
from shelfscan.model.store import Aisle, Bay, Bin, Gondola, Shelf, Store

COUNT = 30
EYE_X, EYE_Z, AWAY = 1.0, 0.45, 0.9


def world() -> tuple[Store, dict[str, Product], dict[str, PlanogramLine]]:
    """Thirty bins of as many SKUs, planned by one rule: 8 % air beside, as many rows as fit."""
    catalogue, bins, plan, x = {}, [], {}, 0.0
    for n in range(COUNT):
        w, d, h = 0.05 + 0.003 * n, 0.06 + 0.0011 * n, 0.1 + 0.005 * n
        catalogue[f"S{n}"] = Product(f"S{n}", "4006381333931", "n", "b", "c", w, d, h, 1.0)
        bins.append(Bin(f"b{n}", x, w * 1.08))
        plan[f"b{n}"] = PlanogramLine(f"b{n}", f"S{n}", 1, 1, int(0.43 / (d + 0.004)))
        x += w * 1.08
    shelf = Shelf("S", 0.3, 0.4, 0.45, tuple(bins))
    store = Store("s", (Aisle("A", (Gondola("G", Pose2D(0, 1, 0), 0.5, 1.2, (Bay("B", 0, x, (shelf,)),)),)),))
    return store, catalogue, plan


STORE, TRUE, PLAN = world()
PLACES = list(STORE.places.values())


NO_DEPTH = FaceFront(np.full((80, 400), np.nan, np.float32))


def scan(factor: float = 1.0, eye_z_m: float = EYE_Z) -> BayScan:
    """All items as two heads' boxes have them, their heights ``factor`` times what they are."""
    seen = []
    for n, p in enumerate(PLACES):
        product = TRUE[PLAN[p.bin_id].sku]
        for head in ("low", "high"):
            h = product.height_m * factor
            x, z = (p.x0_m + p.x1_m) / 2, p.z0_m + h / 2
            angle = math.atan(math.hypot(x - EYE_X, z - eye_z_m) / AWAY)
            size = (product.width_m, h)
            named = (Candidate(product.sku, 0.9),)
            seen.append(
                Observation(f"{n}{head}", head, "G", (0, 0, 1, 1), 0.9, (0, 0, 0), (x, 0.014, z), size, 0.9, angle, named)
            )
    fronts = tuple(FrontGrid(h, "G", 0, 0, EYE_X, eye_z_m, np.full((2, 2), 14, np.int16)) for h in ("low", "high"))
    return BayScan("m", "V1", "c", 1, ("B",), tuple(seen), (), (), fronts)


def found_by(catalogue: dict[str, Product], scans: list[BayScan], front: FaceFront = NO_DEPTH) -> dict[str, WrongSize]:
    return wrong_sizes(scans, "G", PLACES, PLAN, catalogue, usual_of(PLACES, PLAN, catalogue), front)


def told(catalogue: dict[str, Product], scans: list[BayScan], front: FaceFront = NO_DEPTH) -> dict[str, tuple[str, float]]:
    return {s: (w.side, w.likely_m) for s, w in found_by(catalogue, scans, front).items()}


def standing() -> FaceFront:
    """The items as depth has them: fronts, and above them the shelf's back."""
    depth = np.full((80, 400), 0.44, np.float32)
    for p in PLACES:
        top = p.z0_m + TRUE[PLAN[p.bin_id].sku].height_m
        depth[: round(top / 0.02), int(p.x0_m / 0.01) : int(p.x1_m / 0.01) + 1] = 0.014
    return FaceFront(depth)


def test_a_catalogue_that_is_right_is_not_blamed() -> None:
    assert told(TRUE, [scan()]) == {}
    assert told(TRUE, []) == {}


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, COUNT - 1),
    side=st.sampled_from(["width_m", "height_m", "depth_m"]),
    factor=st.floats(1.35, 1.6),
    down=st.booleans(),
)
def test_a_side_that_is_wrong_by_a_third_is_told_and_put_right(n: int, side: str, factor: float, down: bool) -> None:
    sku = f"S{n}"
    true = getattr(TRUE[sku], side)
    wrong = {**TRUE, sku: replace(TRUE[sku], **{side: true / factor if down else true * factor})}
    found = told(wrong, [scan()])
    assert set(found) == {sku}
    assert found[sku][0] == side
    assert abs(found[sku][1] / true - 1) < 0.2
    better = corrected(wrong, found_by(wrong, [scan()]))
    assert abs(getattr(better[sku], side) / true - 1) < abs(getattr(wrong[sku], side) / true - 1)


def test_depth_tells_an_item_from_its_top_side() -> None:
    """From above a low item's box takes in its top: only depth says whether the item is higher, or its top is seen."""
    n, above = 3, 0.9
    wrong = {**TRUE, f"S{n}": replace(TRUE[f"S{n}"], height_m=TRUE[f"S{n}"].height_m / 1.35)}
    assert told(wrong, [scan(1.0, above)]) == {}
    side, likely_m = told(wrong, [scan(1.0, above)], standing())[f"S{n}"]
    assert side == "height_m" and abs(likely_m / TRUE[f"S{n}"].height_m - 1) < 0.15
    # Boxes that take in tops, of items as high as they should be.
    assert told(TRUE, [scan(1.3, above)], standing()) == {}


def test_depth_clears_goods_whose_boxes_are_cut() -> None:
    assert told(TRUE, [scan(0.75)]) != {}
    assert told(TRUE, [scan(0.75)], standing()) == {}


def test_a_front_that_goes_on_above_a_box_clears_it_where_no_end_is_seen() -> None:
    depth = standing().depth_m.copy()
    depth[depth > 0.4] = np.nan
    # What is lower than two of depth's rows cannot be cleared.
    high = {sku for sku, product in TRUE.items() if product.height_m * 0.28 > 0.04}
    assert len(high) > 10
    assert high <= set(told(TRUE, [scan(0.72)]))
    assert not high & set(told(TRUE, [scan(0.72)], FaceFront(depth)))


def test_another_size_of_the_same_design_is_no_slip_in_the_catalogue() -> None:
    seen = scan(0.72)
    small = replace(seen, observations=tuple(replace(o, size_m=(0.72 * o.size_m[0], o.size_m[1])) for o in seen.observations))
    assert told(TRUE, [seen]) != {}
    assert told(TRUE, [small]) == {}


def test_of_two_flavours_it_is_the_one_that_is_planned() -> None:
    """The sibling's name is a hair's breadth ahead; a stranger's far ahead is another matter."""
    wrong = {**TRUE, "S4": replace(TRUE["S4"], height_m=TRUE["S4"].height_m / 1.4)}

    def named(ahead: float) -> BayScan:
        seen = scan()
        others = (Candidate("S20", 0.9), Candidate("S4", round(0.9 - ahead, 3)))
        here = [replace(o, candidates=others) if o.candidates[0].sku == "S4" else o for o in seen.observations]
        return replace(seen, observations=tuple(here))

    assert set(told(wrong, [named(0.01)])) == {"S4"}
    assert told(wrong, [named(0.3)]) == {}


def stacked(factor: float, tops: float = 1.0) -> tuple[dict[str, PlanogramLine], BayScan]:
    """Goods planned in two rows: boxes of lower rows take in tops, upper rows stand on what is there."""
    plan = {b: replace(line, facings_high=2) for b, line in PLAN.items()}
    seen = scan(1.12, 0.9)
    upper = []
    for o in seen.observations:
        high = TRUE[o.candidates[0].sku].height_m
        foot = 0.3 + high * factor
        upper.append(replace(o, face_m=(o.face_m[0], 0.1, foot + high * tops / 2), size_m=(o.size_m[0], high * tops)))
    return plan, replace(seen, observations=(*seen.observations, *upper))


def test_the_upper_row_stands_as_high_as_the_lower_one_is() -> None:
    plan, seen = stacked(1.0)
    usual = usual_of(PLACES, plan, TRUE)
    assert wrong_sizes([seen], "G", PLACES, plan, TRUE, usual, NO_DEPTH) == {}
    for by in (1.35, 1 / 1.3):
        wrong = {**TRUE, "S4": replace(TRUE["S4"], height_m=TRUE["S4"].height_m * by)}
        found = wrong_sizes([seen], "G", PLACES, plan, wrong, usual, NO_DEPTH)
        assert set(found) == {"S4"} and found["S4"].side == "height_m"
        assert abs(found["S4"].likely_m / TRUE["S4"].height_m - 1) < 0.05


def test_boxes_of_an_upper_row_that_take_in_the_lower_one_say_nothing_of_its_height() -> None:
    plan, seen = stacked(0.72, 1.28)
    assert wrong_sizes([seen], "G", PLACES, plan, TRUE, usual_of(PLACES, plan, TRUE), NO_DEPTH) == {}


def test_a_store_without_a_rule_is_not_held_to_one() -> None:
    """Columns of any width and rows of any number say nothing of the goods."""
    loose = {b: replace(line, facings_deep=1 + n % 6) for n, (b, line) in enumerate(PLAN.items())}
    usual = usual_of(PLACES, loose, TRUE)
    assert usual.rows is None
    assert usual_of(PLACES[:5], PLAN, TRUE).pitch is None


def pictured(seed: int = 0, loose: float = 0.02) -> dict[str, float]:
    """Height over width of every product's picture: its front, some of its top and of its side, and how well it was cut."""
    rng = np.random.default_rng(seed)
    out = {}
    for sku, p in TRUE.items():
        shown = p.height_m + 0.1 * p.depth_m, p.width_m + 0.08 * p.depth_m
        out[sku] = shown[0] / shown[1] * math.exp(rng.normal(0, loose))
    return out


def by_pictures(catalogue: dict[str, Product], shapes: dict[str, float], scans: list[BayScan]) -> dict[str, WrongSize]:
    usual = usual_of(PLACES, PLAN, catalogue, shapes)
    return wrong_sizes(scans, "G", PLACES, PLAN, catalogue, usual, NO_DEPTH, shapes)


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(0, COUNT - 1),
    side=st.sampled_from(["height_m", "width_m"]),
    by=st.one_of(st.floats(1.27, 1.7), st.floats(0.55, 0.78)),
    seed=st.integers(0, 100),
)
def test_a_picture_of_other_proportions_tells_a_wrong_size_of_what_is_sold_out(n: int, side: str, by: float, seed: int) -> None:
    sku = f"S{n}"
    wrong = {**TRUE, sku: replace(TRUE[sku], **{side: getattr(TRUE[sku], side) * by})}  # type: ignore[arg-type]
    found = by_pictures(wrong, pictured(seed), [])
    assert set(found) == {sku} and found[sku].side == side
    # It is known before anything is seen, for what strays to another face.
    shapes = pictured(seed)
    assert planned_sizes(PLACES, PLAN, wrong, usual_of(PLACES, PLAN, wrong, shapes), shapes) == found
    assert abs(found[sku].likely_m / getattr(TRUE[sku], side) - 1) < 0.12


def test_pictures_of_the_right_proportions_tell_nothing_and_some_wrong_sizes_do_not_bend_the_rule() -> None:
    assert by_pictures(TRUE, pictured(), []) == {}
    many = {f"S{n}" for n in range(0, COUNT, 5)}
    wrong = {k: replace(p, height_m=p.height_m * 1.5) if k in many else p for k, p in TRUE.items()}
    assert set(by_pictures(wrong, pictured(), [])) == many


def test_pictures_that_are_cut_anyhow_have_no_say() -> None:
    shapes = pictured(loose=0.25)
    assert usual_of(PLACES, PLAN, TRUE, shapes).pictures is None
    assert by_pictures(TRUE, shapes, []) == {}
    few = dict(list(pictured().items())[:10])
    assert usual_of(PLACES, PLAN, TRUE, few).pictures is None


def test_boxes_that_a_picture_does_not_bear_out_tell_nothing_and_those_it_does_are_surer() -> None:
    seen = [scan(1 / 1.35)]
    assert any(w.side == "height_m" for w in found_by(TRUE, seen).values())
    assert by_pictures(TRUE, pictured(), seen) == {}
    wrong = {**TRUE, "S4": replace(TRUE["S4"], height_m=TRUE["S4"].height_m * 1.4)}
    alone, both = found_by(wrong, [scan()])["S4"], by_pictures(wrong, pictured(), [scan()])["S4"]
    assert both.confidence > alone.confidence and both.likely_m == alone.likely_m
