"""The stock map as a pure projection of ledger events."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

import numpy as np

from shelfscan.audit.availability import Look, bin_state, drift_finding, findings_of, size_finding, stale_finding
from shelfscan.audit.condition import troubles
from shelfscan.audit.confidence import IDENTITY, ConfidenceModel
from shelfscan.audit.match import BinMatch, Placed, Seen
from shelfscan.audit.sizes import corrected, planned_sizes, wrong_sizes
from shelfscan.audit.space import match_layers, spread
from shelfscan.audit.stale import Verdict, in_bins, shelf_as_seen, verdicts
from shelfscan.audit.tags import TAG_BEFORE_M, TAG_BELOW_M, BinTag, agree, amount, place_tags
from shelfscan.audit.units import ROUGH, UnitsModel
from shelfscan.audit.usual import usual_of
from shelfscan.model.catalogue import Catalogue
from shelfscan.model.front import FaceFront
from shelfscan.model.geometry import apply
from shelfscan.model.planogram import Planogram
from shelfscan.model.scan import BayScan, PlaceCheck, TagReading, TopLook
from shelfscan.model.stock import BinState, Finding, PlacedProduct, StockMap, UnseenReason
from shelfscan.model.store import BinPlace, Gondola, Store, on_shelves
from shelfscan.ports import Event
from shelfscan.stock.drift import drifted_shelves, shelf_heights
from shelfscan.stock.fuse import fuse, latest_per_viewpoint
from shelfscan.stock.register import registered
from shelfscan.stock.settle import settled

#: An item differs by so much from its kind when it is told to be damaged: few false alarms before few misses.
DAMAGE_FROM = 2.0
#: Of so many bins of a shelf two thirds of the tags at least are made out, or the others are not called missing.
UNREAD_FROM = 3
#: How sure a count still is where the planogram is stale: only what is seen counts there.
STALE_SURE = 0.85
#: Something stands in the way of a look at a bin when so many of its cells are blocked.
IN_THE_WAY = 2
#: Pictures kept for a bin.
EVIDENCE = 3


def iso_utc(stamp_ns: int) -> str:
    """ISO-8601 UTC with milliseconds; empty for 0."""
    if stamp_ns <= 0:
        return ""
    return datetime.fromtimestamp(stamp_ns / 1e9, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class _Face:
    """What is believed of one gondola face, and what that rests on: equal grounds give an equal belief."""

    grounds: tuple[object, ...]
    bins: tuple[BinState, ...]
    products: tuple[PlacedProduct, ...]
    findings: tuple[Finding, ...]
    seen: Mapping[str, int]


class StockProjector:
    """Folds a mission's ledger events into what is believed of every bin.

    The order of events does not matter for scans, and the same event twice changes nothing. Faces of which nothing new
    was learned are not worked out again, so a map of a large store costs what the robot saw since the last one.
    """

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        planogram: Planogram,
        *,
        mission_id: str,
        units: UnitsModel = ROUGH,
        sure: ConfidenceModel = IDENTITY,
        shapes: Mapping[str, float] | None = None,
    ) -> None:
        """``shapes``: height over width of the products' gallery pictures, by SKU."""
        self._shapes = dict(shapes or {})
        self._units, self._sure = units, sure
        self._store, self._catalogue, self._planogram, self._mission = store, catalogue, planogram, mission_id
        self._scans: dict[str, BayScan] = {}
        self._told: dict[str, set[str]] = {}
        self._failures: dict[str, tuple[str, str]] = {}
        self._bays: dict[str, tuple[str, ...]] = {}
        self._bins: dict[str, tuple[str, ...]] = {}
        self._left_out: frozenset[str] = frozenset()
        self._planned_why: dict[str, UnseenReason] = {}
        self._time_up = False
        self._places: dict[str, list[BinPlace]] = {}
        for place in store.places.values():
            self._places.setdefault(place.gondola_id, []).append(place)
        self._order = {b: n for n, b in enumerate(store.places)}
        self._next_door = next_door(store.places.values(), planogram)
        self._beside = beside(store.places.values())
        self._known: dict[str, _Face] = {}
        self._usual = usual_of(store.places.values(), planogram, catalogue, self._shapes)
        # What strays from another face has the size that this store's plan and pictures say, too.
        known = planned_sizes(store.places.values(), planogram, catalogue, self._usual, self._shapes)
        self._sized = corrected(catalogue, known)

    @property
    def mission_id(self) -> str:
        """The mission whose events are projected."""
        return self._mission

    @property
    def scans(self) -> tuple[BayScan, ...]:
        """The newest scan of each viewpoint."""
        return tuple(latest_per_viewpoint(self._scans.values()))

    def witness(self, place: BinPlace, match: BinMatch, tops: Sequence[TopLook]) -> None:
        """Told of every bin that is worked out, with what its count rests on; for those who learn from it."""

    def add_event(self, event: Event) -> bool:
        """Take one event in; whether the map may have changed."""
        p = event.payload
        if p.get("mission_id") != self._mission:
            return False
        match event.kind:
            case "bay_scan":
                if p["capture_id"] in self._scans:
                    return False
                scan = BayScan.from_json(dict(p))
                self._scans[scan.capture_id], self._told[scan.capture_id] = scan, self._faces_of(scan)
            case "mission.started":
                plan = p["plan"]
                self._bays = {v["viewpoint_id"]: tuple(v["bay_ids"]) for v in plan["viewpoints"]}
                self._bins = {v["viewpoint_id"]: self._bins_of(v) for v in plan["viewpoints"]}
                self._left_out = self._bays_left_out(plan.get("unreachable_bins", ()))
                self._planned_why = {b: UnseenReason(why) for b, why in dict(plan.get("why", {})).items()}
            case "mission.extended":
                self._bays |= {v["viewpoint_id"]: tuple(v["bay_ids"]) for v in p["viewpoints"]}
                self._bins |= {v["viewpoint_id"]: self._bins_of(v) for v in p["viewpoints"]}
            case "viewpoint.failed":
                self._failures[str(p["viewpoint_id"])] = (str(p["what"]), str(p["reason"]))
            case "mission.time_up":
                self._time_up = True
            case "mission.resumed":
                self._time_up = self._time_up and bool(p.get("by_itself", False))
            case "mission.ended":
                return True  # nothing new, but a map worth dating anew
            case _:
                return False
        return True

    def stock_map(self, created_ns: int) -> StockMap:
        """The belief now. ``created_ns``: the time to write on it."""
        faces = self._faces()
        order = self._order
        return StockMap(
            self._store.site,
            self._mission,
            iso_utc(created_ns),
            tuple(sorted((b for f in faces for b in f.bins), key=lambda b: order[b.bin_id])),
            tuple(p for f in faces for p in f.products),
            tuple(
                sorted(
                    (x for f in faces for x in f.findings),
                    key=lambda x: (-x.value * x.confidence, order[x.bin_id], x.type),
                )
            ),
        )

    def seen(self) -> dict[str, int]:
        """Which cells of each bin's front all captures together saw, as `BinCoverage.seen`, where they turned out to stand."""
        return {bin_id: mask for face in self._faces() for bin_id, mask in face.seen.items()}

    def _faces(self) -> list[_Face]:
        of_face: dict[str, list[BayScan]] = {}
        for scan in self.scans:
            for gondola_id in self._told[scan.capture_id]:
                of_face.setdefault(gondola_id, []).append(scan)
        failures = self._failures_of_bins()
        return [self._face(g, of_face.get(g.gondola_id, []), failures) for _, g in self._store.gondolas()]

    def _faces_of(self, scan: BayScan) -> set[str]:
        """The gondola faces a scan tells something of."""
        told = {x.gondola_id for part in (scan.observations, scan.tags, scan.fronts) for x in part}
        return told | {self._store.places[x.bin_id].gondola_id for part in (scan.coverage, scan.checks) for x in part}

    def _face(self, gondola: Gondola, scans: Sequence[BayScan], failures: Mapping[str, str]) -> _Face:
        """The belief about one face, from the scans that tell something of it."""
        gid = gondola.gondola_id
        places = self._places.get(gid, [])
        why = tuple((p.bin_id, failures[p.bin_id]) for p in places if p.bin_id in failures)
        grounds = (tuple(s.capture_id for s in scans), why)
        known = self._known.get(gid)
        if known is None or known.grounds != grounds:
            known = self._known[gid] = self._work_out(gondola, places, scans, failures, grounds)
        return known

    def _work_out(
        self,
        gondola: Gondola,
        places: Sequence[BinPlace],
        scans: Sequence[BayScan],
        failures: Mapping[str, str],
        grounds: tuple[object, ...],
    ) -> _Face:
        gid = gondola.gondola_id
        here = {p.bin_id for p in places}
        heights = shelf_heights(scans, gid)
        places = on_shelves(places, heights)
        scans = registered(scans, gid, places)
        seen, tags_of, tags, verdict_of = self._judged(scans, gid, places)
        reset = {bay for bay, verdict in verdict_of.items() if verdict.stale}
        if reset:
            scans = settled(scans, gid, places, self._planogram, reset)
            seen, tags_of, tags, verdict_of = self._judged(scans, gid, places)
        front = FaceFront.fuse([g for s in scans for g in s.fronts if g.gondola_id == gid], gondola.length_m, gondola.height_m)
        wrong = wrong_sizes(scans, gid, places, self._planogram, self._catalogue, self._usual, front, self._shapes)
        here_skus = {self._planogram[p.bin_id].sku for p in places}
        catalogue = corrected({**self._sized, **{s: self._catalogue[s] for s in here_skus}}, wrong)
        # What was looked up at planned places was cut out with the catalogue's size.
        resized = {p.bin_id for p in places if self._planogram[p.bin_id].sku in wrong}
        checks = [c for s in scans for c in s.checks if c.bin_id in here and c.bin_id not in resized]
        matched = match_layers(seen, places, self._planogram, catalogue, front, checks, resized)
        matched = {**matched, **self._as_seen(places, catalogue, verdict_of, in_bins(seen, places), tags_of, front)}
        shifts = self._shifts(places, matched, tags_of)
        looks = _looks(scans, here)
        # Whose space it is can be said where all of it was seen, by a plan and sizes that hold.
        unsaid = {p.bin_id for p in places if verdict_of[p.bay_id].stale or not looks.get(p.bin_id, Look()).in_full} | resized
        taken = spread(places, self._planogram, catalogue, matched, unsaid)
        strays = {p.bin_id: {q.sku for q in matched[p.bin_id].placed if not q.planned} for p in places}
        checks_of: dict[str, list[PlaceCheck]] = {}
        for c in checks:
            checks_of.setdefault(c.bin_id, []).append(c)
        tops_of: dict[str, list[TopLook]] = {}
        for top in (t for s in scans for t in s.tops if t.bin_id in here):
            tops_of.setdefault(top.bin_id, []).append(top)
        drifted = drifted_shelves(places, heights, [f.eye_z_m for s in scans for f in s.fronts if f.gondola_id == gid])
        unread = _unread([p for p in places if looks.get(p.bin_id, Look()).in_full], tags)
        bins: list[BinState] = []
        products: list[PlacedProduct] = []
        findings: list[Finding] = []
        covered: dict[str, int] = {}
        for place in places:
            line = self._planogram[place.bin_id]
            product = catalogue[line.sku]
            look = replace(looks.get(place.bin_id, Look()), failure=failures.get(place.bin_id, ""))
            match = matched[place.bin_id]
            if match.hidden or not (look.clear or match.placed or match.above):
                # A plain thing in the way is made out only in part: behind one that every look met, nothing is called empty.
                look = replace(look, seen=0, blocked=look.blocked | look.seen)
            covered[place.bin_id] = look.seen
            tag, verdict = tags.get(place.bin_id), verdict_of[place.bay_id]
            position = _measured_centre(place, shifts.get(place.bay_id, (0.0, 0.0, 0.0)))
            state = bin_state(
                place,
                line,
                product,
                match,
                look,
                tag,
                position,
                iso_utc(look.stamp_ns),
                verdict.stale,
                tops_of.get(place.bin_id, ()),
                self._units,
                line.sku in wrong,
                taken.get(place.bin_id),
            )
            self.witness(place, match, tops_of.get(place.bin_id, ()))
            if verdict.stale:
                state = replace(state, confidence=round(state.confidence * STALE_SURE, 3))
                found = stale_finding(place, look, verdict) + size_finding(place, line, look, wrong.get(line.sku))
            else:
                condition = troubles(place, line, catalogue, match, checks_of.get(place.bin_id, ()), DAMAGE_FROM)
                moved = any(line.sku in strays[b] for b in self._beside[place.bin_id])
                told = (condition, wrong.get(line.sku), taken.get(place.bin_id), moved)
                found = findings_of(place, line, product, match, look, tag, state, *told)
            if place.bin_id in drifted:
                found.append(drift_finding(place, look, *drifted[place.bin_id]))
            if place.shelf_id in unread:
                found = [f for f in found if f.type != "missing_tag"]
            state = self._sure.state(state, line.low_at_units, verdict.stale)
            found = [self._sure.finding(f, state, match, self._next_door[place.bin_id]) for f in found]
            findings += found
            bins.append(replace(state, findings=tuple(f.finding_id for f in found)))
            products += [_product_row(p, place, catalogue) for p in (*match.placed, *match.above)]
        return _Face(grounds, tuple(bins), tuple(products), tuple(findings), covered)

    def _judged(
        self, scans: Sequence[BayScan], gondola_id: str, places: Sequence[BinPlace]
    ) -> tuple[list[Seen], dict[str, list[TagReading]], dict[str, BinTag], dict[str, Verdict]]:
        """The products and tags of one face, both as they are read and as they agree, and what they say of its planogram."""
        clusters = [c for c in fuse(scans) if c.gondola_id == gondola_id]
        seen = [Seen(c.first_id, c.face_m, c.size_m, c.score, c.candidates(), len(c.looks), c.top) for c in clusters]
        tags_of = place_tags([t for s in scans for t in s.tags if t.gondola_id == gondola_id], places)
        tags = {b: agree(readings) for b, readings in tags_of.items()}
        return seen, tags_of, tags, verdicts(places, self._planogram, self._catalogue, in_bins(seen, places), tags)

    def _as_seen(
        self,
        places: Sequence[BinPlace],
        catalogue: Catalogue,
        verdict_of: Mapping[str, Verdict],
        inside: Mapping[str, Sequence[Seen]],
        tags_of: Mapping[str, Sequence[TagReading]],
        front: FaceFront,
    ) -> dict[str, BinMatch]:
        """The bins of stale bays, each with what is seen to stand there."""
        shelves: dict[str, list[BinPlace]] = {}
        sold: dict[str, set[str]] = {}
        for place in places:
            if verdict_of[place.bay_id].stale:
                shelves.setdefault(place.shelf_id, []).append(place)
                sold.setdefault(place.bay_id, set()).add(self._planogram[place.bin_id].sku)
        priced: dict[str, set[str]] = {}
        for sku, product in catalogue.items() if shelves else ():
            priced.setdefault(f"{product.price:.2f}", set()).add(sku)
        out: dict[str, BinMatch] = {}
        for here in shelves.values():
            seen = [s for p in here for s in inside.get(p.bin_id, ())]
            tags = []
            for tag in (t for p in here for t in tags_of.get(p.bin_id, ())):
                printed = amount(tag.price_text) if tag.price_text else None
                tags.append((tag.face_m[0], frozenset(priced.get(f"{printed:.2f}" if printed is not None else "", ()))))
            out |= shelf_as_seen(here, self._planogram, catalogue, seen, sold[here[0].bay_id], tags, front)
        return out

    def _bins_of(self, viewpoint: Mapping[str, Any]) -> tuple[str, ...]:
        """What a viewpoint of a plan sees; of an older plan, all bins of its bays."""
        if viewpoint.get("bin_ids"):
            return tuple(viewpoint["bin_ids"])
        bays = set(viewpoint["bay_ids"])
        return tuple(p.bin_id for p in self._store.places.values() if p.bay_id in bays)

    def _bays_left_out(self, unreachable: Collection[str]) -> frozenset[str]:
        """Bays that the plan does not go to although it could (a mission of some aisles or bins only)."""
        visited = {bay for bays in self._bays.values() for bay in bays}
        out_of_reach = {self._store.places[b].bay_id for b in unreachable if b in self._store.places}
        return frozenset({p.bay_id for p in self._store.places.values()} - visited - out_of_reach)

    def _failures_of_bins(self) -> dict[str, str]:
        """Per bin why a viewpoint that should have seen it did not, as one of `UnseenReason`'s words."""
        warned: dict[str, bool] = {}
        for scan in self._scans.values():
            warned[scan.viewpoint_id] = warned.get(scan.viewpoint_id, True) and bool(scan.warnings)
        told: dict[str, list[UnseenReason]] = {
            p.bin_id: [UnseenReason.SKIPPED] for p in self._store.places.values() if p.bay_id in self._left_out
        }
        for bin_id, planned in self._planned_why.items():
            if bin_id in self._store.places:
                told.setdefault(bin_id, []).append(planned)
        for viewpoint_id, bins in self._bins.items():
            if viewpoint_id in warned:
                # A scan that could not use some head's pictures did not see what that head should have seen.
                why = UnseenReason.SENSOR if warned[viewpoint_id] else None
            elif viewpoint_id in self._failures:
                why = UnseenReason.BLOCKED if self._failures[viewpoint_id][0] == "drive" else UnseenReason.SENSOR
            else:
                why = UnseenReason.TIME if self._time_up else UnseenReason.SKIPPED
            if why is not None:
                for bin_id in bins:
                    told.setdefault(bin_id, []).append(why)
        # A failure says more than a place not gone to; the first one along the face stands for all.
        return {b: str(next((w for w in all_ if w is not UnseenReason.SKIPPED), all_[0])) for b, all_ in told.items()}

    def _shifts(
        self, places: Sequence[BinPlace], matched: Mapping[str, BinMatch], tags_of: Mapping[str, Sequence[TagReading]]
    ) -> dict[str, tuple[float, float, float]]:
        """Per bay, how far the shelf was found from where the layout has it: (x, y, z) in the face frame, metres.

        Tags lie in the front plane at a known height; columns of planned products say where bins lie along the face.
        """
        x: dict[str, list[float]] = {}
        y: dict[str, list[float]] = {}
        z: dict[str, list[float]] = {}
        for place in places:
            line = self._planogram[place.bin_id]
            pitch = (place.x1_m - place.x0_m) / line.facings_wide
            for p in matched[place.bin_id].placed:
                if p.planned and p.seen is not None:
                    x.setdefault(place.bay_id, []).append(p.face_m[0] - (place.x0_m + (p.column + 0.5) * pitch))
            for tag in tags_of.get(place.bin_id, ()):
                y.setdefault(place.bay_id, []).append(tag.face_m[1] + TAG_BEFORE_M)
                z.setdefault(place.bay_id, []).append(tag.face_m[2] - (place.z0_m - TAG_BELOW_M))
        bays = {p.bay_id for p in places}
        return {b: (_median(x.get(b)), _median(y.get(b)), _median(z.get(b))) for b in bays}


def next_door(places: Iterable[BinPlace], planogram: Planogram) -> dict[str, frozenset[str]]:
    """Per bin, the SKUs planned beside it on the same shelf board, over a border between bays too."""
    return {b: frozenset(planogram[q].sku for q in near) for b, near in beside(places).items()}


def beside(places: Iterable[BinPlace]) -> dict[str, tuple[str, ...]]:
    """Per bin, the bins beside it on the same shelf board, over a border between bays too."""
    rows: dict[tuple[str, float], list[BinPlace]] = {}
    for p in places:
        rows.setdefault((p.gondola_id, round(p.z0_m, 2)), []).append(p)
    out: dict[str, tuple[str, ...]] = {}
    for row in rows.values():
        row.sort(key=lambda p: p.x0_m)
        for n, p in enumerate(row):
            out[p.bin_id] = tuple(q.bin_id for q in row[max(0, n - 1) : n + 2] if q is not p)
    return out


def _unread(seen: Sequence[BinPlace], tags: Collection[str]) -> set[str]:
    """Shelves of whose tags hardly any was made out: that is the light or the view there, and no word on the tags."""
    of_shelf: dict[str, list[bool]] = {}
    for p in seen:
        of_shelf.setdefault(p.shelf_id, []).append(p.bin_id in tags)
    return {s for s, read in of_shelf.items() if len(read) >= UNREAD_FROM and sum(read) < 2 / 3 * len(read)}


def _looks(scans: Sequence[BayScan], here: Collection[str]) -> dict[str, Look]:
    """What all captures together saw of each bin of one face; without why others failed."""
    out: dict[str, Look] = {}
    pictures: dict[str, list[tuple[int, str]]] = {}
    for scan in scans:
        for c in scan.coverage:
            if c.bin_id not in here:
                continue
            before = out.get(c.bin_id, Look())
            if c.evidence:
                pictures.setdefault(c.bin_id, []).append((-c.seen.bit_count(), f"evidence/{c.evidence}"))
            seen = before.seen | c.seen
            # A capture that saw nothing of a bin for what stood before it makes what is known no younger.
            stamp_ns = max(before.stamp_ns, scan.stamp_ns) if c.seen else before.stamp_ns
            clear = c.seen != 0 and c.blocked.bit_count() < IN_THE_WAY
            known = c.bin_id in out and before.clear
            out[c.bin_id] = Look(seen, (before.blocked | c.blocked) & ~seen, stamp_ns, clear=known or clear)
    # The picture that shows most of a bin first.
    best = {b: tuple(name for _, name in sorted(found)[:EVIDENCE]) for b, found in pictures.items()}
    return {b: replace(look, evidence=best.get(b, ())) for b, look in out.items()}


def _median(values: Sequence[float] | None) -> float:
    return statistics.median(values) if values else 0.0


def _measured_centre(place: BinPlace, shift: tuple[float, float, float]) -> tuple[float, float, float]:
    middle = np.array([(place.x0_m + place.x1_m) / 2, 0.0, (place.z0_m + place.z1_m) / 2]) + np.array(shift)
    p = apply(place.T_map_face, middle)
    return (round(float(p[0]), 4), round(float(p[1]), 4), round(float(p[2]), 4))


def _product_row(p: Placed, place: BinPlace, catalogue: Catalogue) -> PlacedProduct:
    """The item's centre lies half its depth behind the front that was measured."""
    product = catalogue.get(p.sku)
    behind = product.depth_m / 2 if product else 0.03
    x, y, z = p.face_m
    middle = p.down.centre(place.z0_m) if p.down is not None else (x, y + behind, z)
    centre = apply(place.T_map_face, np.array(middle))
    position = (round(float(centre[0]), 4), round(float(centre[1]), 4), round(float(centre[2]), 4))
    return PlacedProduct(p.key, place.bin_id, p.sku, position, p.confidence)
