"""How goods stand: the wrong side to the front, lying, pushed back, damaged. Where nothing speaks for sure nothing is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shelfscan.audit.match import CHECK_DEPTH_M, CHECK_PLANNED, MISFIT, BinMatch, Placed, check_turn, misfit
from shelfscan.audit.units import FRONT_M
from shelfscan.model.catalogue import Catalogue, Product
from shelfscan.model.planogram import PlanogramLine
from shelfscan.model.scan import PlaceCheck
from shelfscan.model.store import BinPlace

#: Depth behind the edge that no whole number of missing items explains, in metres and in shares of an item's depth.
OFF_ROW_M, OFF_ROW = 0.025, 0.3
#: A front this share of the shelf's depth behind the edge hides what is there.
HIDDEN_SHARE = 0.25
#: Damage is told when so many looks show it.
LEAST_LOOKS = 2
#: Steps of confidence: one kind of evidence, two kinds.
ALONE, AGREED = 0.7, 0.9


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with a bin's goods: ``kind`` as the finding's type; ``picture`` names evidence or is empty."""

    kind: str
    confidence: float
    suggestion: str
    picture: str = ""


def troubles(
    place: BinPlace,
    line: PlanogramLine,
    catalogue: Catalogue,
    match: BinMatch,
    checks: Sequence[PlaceCheck],
    damage_from: float,
) -> list[Trouble]:
    """All that is known of a bin's condition, a kind once. ``damage_from``: the least anomaly that is told as damage."""
    product = catalogue[line.sku]
    out: list[Trouble] = []
    turned = [(p, how) for p in match.placed if p.planned and (how := _turned(p, checks, catalogue))]
    lying = sorted({p.column for p in match.placed if p.down is not None})
    if lying:
        sure = AGREED if any(c.column in lying and _own(c, line.sku) < CHECK_PLANNED for c in checks if c.row == 0) else ALONE
        out.append(Trouble("fallen", sure, f"stand up {line.sku} in {_columns(lying)}"))
    standing = [(p, how) for p, how in turned if p.column not in lying]
    if standing:
        sure = AGREED if any(how == "upside_down" for _, how in standing) else ALONE
        words = sorted({"upside down" if how == "upside_down" else "not front" for _, how in standing})
        columns = sorted({p.column for p, _ in standing})
        out.append(Trouble("turned", sure, f"turn {line.sku} in {_columns(columns)} ({', '.join(words)})"))
    back = set_back(place, line, product, match)
    if back is not None and not lying:
        out.append(Trouble("pushed_back", ALONE, f"pull {line.sku} forward by {back:.2f} m"))
    damaged = _damaged(match, checks, damage_from, {p.column for p, _ in turned} | set(lying))
    if damaged is not None:
        out.append(damaged)
    dates = _near_expiry(match, checks)
    if dates:
        out.append(Trouble("near_expiry", AGREED, f"sell {line.sku} first or take it out: {', '.join(dates)}"))
    return out


def set_back(place: BinPlace, line: PlanogramLine, product: Product, match: BinMatch) -> float | None:
    """Metres by which a bin's front is pushed back so far that it hides what is there; None where it is not, or not for sure.

    Goods sold from the front leave a front that stands a whole number of items back. One that does not was pushed.
    """
    fronts = [min(p.face_m[1] for p in match.placed if p.column == c) for c in {p.column for p in match.placed if p.planned}]
    if not fronts or min(fronts) < HIDDEN_SHARE * place.depth_m or len(fronts) < len({p.column for p in match.placed}):
        return None
    off = [off_row(y, product) for y in fronts]
    return min(fronts) - FRONT_M if sum(off) * 2 > len(off) else None


def off_row(depth_m: float, product: Product) -> bool:
    """Whether a front ``depth_m`` behind the edge stands where no row of a column would."""
    step = product.depth_m
    least = max(OFF_ROW_M, OFF_ROW * step)
    if step < 2.2 * OFF_ROW_M:
        return False
    rows = round((depth_m - FRONT_M) / step)
    return abs(depth_m - FRONT_M - rows * step) > least


def _turned(p: Placed, checks: Sequence[PlaceCheck], catalogue: Catalogue) -> str:
    """How an item of the planned SKU is turned, or an empty text: all looks must agree, and its size fit."""
    looks = [c for c in checks if (c.column, c.row) == (p.column, p.row) and abs(c.depth_m - p.face_m[1]) < CHECK_DEPTH_M]
    how = check_turn(looks)
    if how == "upside_down":
        return how
    if how == "other_side":
        # The detector finds few backs: depth says as well that something as tall stands there, and two looks are one's alike.
        fits = misfit(p.seen, p.sku, catalogue) < MISFIT if p.seen is not None else p.tall and len(looks) >= LEAST_LOOKS
        return how if fits else ""
    return ""


def _damaged(match: BinMatch, checks: Sequence[PlaceCheck], least: float, apart: set[int]) -> Trouble | None:
    """The item that differs most from what its SKU looks like, when every look at it says so."""
    best: Trouble | None = None
    for p in match.placed:
        if not p.planned or p.column in apart:
            continue
        looks = [c for c in checks if (c.column, c.row) == (p.column, p.row) and abs(c.depth_m - p.face_m[1]) < CHECK_DEPTH_M]
        judged = [c for c in looks if c.damage > 0]
        # A lamp's reflection moves on when the camera does; a dent stays. One look can't tell them apart.
        if len(judged) < LEAST_LOOKS or min(c.damage for c in judged) < least:
            continue
        most = max(judged, key=lambda c: (c.damage, c.weight))
        sure = round(min(AGREED, 0.5 + 0.2 * min(c.damage for c in judged) / least), 3)
        if best is None or sure > best.confidence:
            where = f"column {p.column + 1}, row {p.row + 1}"
            picture = f"evidence/{most.evidence}" if most.evidence else ""
            best = Trouble("damaged", sure, f"look at {p.sku} in {where}: unlike its kind", picture)
    return best


def _near_expiry(match: BinMatch, checks: Sequence[PlaceCheck]) -> list[str]:
    """The near dates of a bin's planned items; of an item that was read as two dates none."""
    places = {(p.column, p.row) for p in match.placed if p.planned}
    read: dict[tuple[int, int], set[str]] = {}
    for c in checks:
        if c.near_expiry and (c.column, c.row) in places:
            read.setdefault((c.column, c.row), set()).add(c.near_expiry)
    return sorted({d for dates in read.values() if len(dates) == 1 for d in dates})


def _own(check: PlaceCheck, sku: str) -> float:
    return max((c.score for c in check.candidates if c.sku == sku), default=0.0)


def _columns(columns: Sequence[int]) -> str:
    return f"column{'s' if len(columns) > 1 else ''} {', '.join(str(c + 1) for c in columns)}"
