"""Captures of bays that were put up anew come to where they are, by what is beside those bays."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfscan.model.detections import Candidate
from shelfscan.model.geometry import Pose2D
from shelfscan.model.planogram import PlanogramLine
from shelfscan.model.scan import Alignment, BayScan, FrontGrid, Observation
from shelfscan.model.store import Aisle, Bay, Bin, Gondola, Shelf, Store
from shelfscan.stock.settle import settled, slope_of

BAY_M, BINS, HEIGHTS = 1.2, 8, (0.3, 0.7, 1.1)
#: How far a box's middle is from its item's for every metre beside the camera.
LEAN = -0.026
EYES = tuple(0.2 + 0.5 * n for n in range(7))


def _store() -> Store:
    bays = []
    for b in range(3):
        shelves = tuple(
            Shelf(f"B{b}S{r}", z, 0.35, 0.45, tuple(Bin(f"B{b}S{r}-{n}", n * BAY_M / BINS, BAY_M / BINS) for n in range(BINS)))
            for r, z in enumerate(HEIGHTS)
        )
        bays.append(Bay(f"B{b}", b * BAY_M, BAY_M, shelves))
    return Store("s", (Aisle("A", (Gondola("G", Pose2D(0.0, 1.0, 0.0), 0.5, 1.6, tuple(bays)),)),))


STORE = _store()
PLACES = list(STORE.places.values())
PLAN = {p.bin_id: PlanogramLine(p.bin_id, f"S{n}", 2, 1, 5) for n, p in enumerate(PLACES)}


def items(rng: random.Random, anew: str) -> list[tuple[float, float, str]]:
    """(x, z, SKU) of what stands there: as planned, and anything anywhere in the bay that was put up anew."""
    out = []
    for p in PLACES:
        for column in range(2):
            x, sku = p.x0_m + (column + 0.5) * (p.x1_m - p.x0_m) / 2, PLAN[p.bin_id].sku
            if p.bay_id == anew:
                x, sku = x + rng.uniform(-0.03, 0.03), f"N{rng.randrange(12)}"
            out.append((x, p.z0_m + 0.1, sku))
    return out


def scans(there: list[tuple[float, float, str]], shifts: list[float], rng: random.Random) -> list[BayScan]:
    """What captures half a metre apart see of it, each wrong along the face by its shift."""
    out = []
    for n, (eye, shift) in enumerate(zip(EYES, shifts, strict=True)):
        seen = []
        for k, (x, z, sku) in enumerate(there):
            if abs(x - eye) < 0.6:
                face = (x + LEAN * (x - eye) - shift + rng.gauss(0, 0.002), 0.014, z)
                named = (Candidate(sku, 0.9),)
                seen.append(Observation(f"{n}/{k}", "low", "G", (0, 0, 9, 9), 0.9, face, face, (0.06, 0.2), 0.9, 0.1, named))
        front = FrontGrid("low", "G", 0, 0, eye - shift, 0.8, np.full((3, 3), 12, np.int16))
        a = Alignment("G", eye, 0.0, 0.0, 0.0, 0.003, 0.01, 0.01)
        out.append(BayScan("m", f"V{n}", f"c{n}", n, (), tuple(seen), (), (), (front,), (), {}, (), (a,)))
    return out


def off(scan: BayScan, there: list[tuple[float, float, str]]) -> float:
    """How far a capture's products are from the items, the median."""
    return float(np.median([o.face_m[0] - there[int(o.observation_id.split("/")[1])][0] for o in scan.observations]))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), anew=st.sampled_from(["B0", "B1", "B2"]))
def test_what_looks_at_a_new_bay_is_brought_to_where_it_is(seed: int, anew: str) -> None:
    rng = random.Random(seed)
    there = items(rng, anew)
    looks = [any(p.x0_m < x < p.x1_m for p in PLACES if p.bay_id == anew for x in (e - 0.5, e, e + 0.5)) for e in EYES]
    made = scans(there, [rng.choice([-0.012, 0.0, 0.012]) if look else 0.0 for look in looks], rng)
    found = settled(made, "G", PLACES, PLAN, {anew})
    far = [abs(off(s, there)) for s in found]
    # A face's last captures hang on one neighbour only.
    assert max(far[1:-1]) < 0.006 and max(far) < 0.014
    assert sum(far) < sum(abs(off(s, there)) for s in made) + 0.004


def test_captures_that_do_not_look_there_stay_as_they_are() -> None:
    rng = random.Random(1)
    made = scans(items(rng, "B0"), [0.012] * len(EYES), rng)
    assert settled(made, "G", PLACES, PLAN, ()) == made
    found = settled(made, "G", PLACES, PLAN, {"B0"})
    assert found[4:] == made[4:] and found[0] != made[0]
    assert settled(made, "other", PLACES, PLAN, {"B0"}) == made
    assert settled(made[:1], "G", PLACES, PLAN, {"B0"}) == made[:1]


def test_a_face_that_was_put_up_anew_as_a_whole_is_left_alone() -> None:
    """Nothing of it is planned any more, so nothing says where its captures are but their neighbours."""
    rng = random.Random(2)
    there = [(x, z, f"N{n % 17}") for n, (x, z, _) in enumerate(items(rng, "B1"))]
    made = scans(there, [0.0] * len(EYES), rng)
    assert all(abs(off(s, there)) < 0.008 for s in settled(made, "G", PLACES, PLAN, {"B0", "B1", "B2"}))


def test_boxes_of_a_face_that_agree_on_nothing_move_nothing_and_break_nothing() -> None:
    """Half of each capture's boxes far to the left of their columns and half far to the right: no line fits any of them."""
    rng = random.Random(3)
    one_by_one = [[(0.03 if n % 2 else -0.03, 0.1 * (n // 2)) for n in range(8)] for _ in range(8)]
    assert slope_of(one_by_one) == 0.0
    lean = [[(0.026 * aside + rng.gauss(0, 0.002), aside) for aside in np.linspace(-0.5, 0.5, 20)] for _ in range(4)]
    assert abs(slope_of(lean) - 0.026) < 0.003
