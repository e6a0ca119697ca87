"""The stock map as a pure projection of ledger events."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone

import numpy as np

from shelfscan.audit.availability import Look, bin_state, findings_of
from shelfscan.audit.match import BinMatch, Placed, Seen, match_face
from shelfscan.audit.tags import TAG_BELOW_M, agree, place_tags
from shelfscan.model.catalogue import Catalogue
from shelfscan.model.front import FaceFront
from shelfscan.model.geometry import apply
from shelfscan.model.planogram import Planogram
from shelfscan.model.scan import BayScan, FrontGrid, PlaceCheck, TagReading
from shelfscan.model.stock import BinState, Finding, PlacedProduct, StockMap, UnseenReason
from shelfscan.model.store import BinPlace, Gondola, Store
from shelfscan.ports import Event
from shelfscan.stock.fuse import Cluster, fuse, latest_per_viewpoint

#: Pictures kept for a bin.
EVIDENCE = 3


def iso_utc(stamp_ns: int) -> str:
    """ISO-8601 UTC with milliseconds; empty for 0."""
    if stamp_ns <= 0:
        return ""
    return datetime.fromtimestamp(stamp_ns / 1e9, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class StockProjector:
    """Folds a mission's ledger events into what is believed of every bin.

    The order of events does not matter for scans, and the same event twice changes nothing.
    """

    def __init__(self, store: Store, catalogue: Catalogue, planogram: Planogram, *, mission_id: str) -> None:
        self._store, self._catalogue, self._planogram, self._mission = store, catalogue, planogram, mission_id
        self._scans: dict[str, BayScan] = {}
        self._failures: dict[str, tuple[str, str]] = {}
        self._bays: dict[str, tuple[str, ...]] = {}
        self._ended = ""

    @property
    def mission_id(self) -> str:
        """The mission whose events are projected."""
        return self._mission

    @property
    def scans(self) -> tuple[BayScan, ...]:
        """The newest scan of each viewpoint."""
        return tuple(latest_per_viewpoint(self._scans.values()))

    def add_event(self, event: Event) -> bool:
        """Take one event in; whether the map may have changed."""
        p = event.payload
        if p.get("mission_id") != self._mission:
            return False
        match event.kind:
            case "bay_scan":
                scan = BayScan.from_json(dict(p))
                self._scans[scan.capture_id] = scan
            case "mission.started":
                self._bays = {v["viewpoint_id"]: tuple(v["bay_ids"]) for v in p["plan"]["viewpoints"]}
            case "viewpoint.failed":
                self._failures[str(p["viewpoint_id"])] = (str(p["what"]), str(p["reason"]))
            case "mission.ended":
                self._ended = str(p["phase"])
            case _:
                return False
        return True

    def stock_map(self, created_ns: int) -> StockMap:
        """The belief now. ``created_ns``: the time to write on it."""
        scans = self.scans
        clusters: dict[str, list[Cluster]] = {}
        for cluster in fuse(scans):
            clusters.setdefault(cluster.gondola_id, []).append(cluster)
        tags: dict[str, list[TagReading]] = {}
        for scan in scans:
            for tag in scan.tags:
                tags.setdefault(tag.gondola_id, []).append(tag)
        fronts: dict[str, list[FrontGrid]] = {}
        checks: dict[str, list[PlaceCheck]] = {}
        for scan in scans:
            for grid in scan.fronts:
                fronts.setdefault(grid.gondola_id, []).append(grid)
            for check in scan.checks:
                checks.setdefault(self._store.places[check.bin_id].gondola_id, []).append(check)
        looks = self._looks(scans)
        bins: list[BinState] = []
        products: list[PlacedProduct] = []
        findings: list[Finding] = []
        for _, gondola in self._store.gondolas():
            gid = gondola.gondola_id
            front = FaceFront.fuse(fronts.get(gid, []), gondola.length_m, gondola.height_m)
            made = self._face(gondola, clusters.get(gid, []), tags.get(gid, []), front, checks.get(gid, []), looks)
            bins += made[0]
            products += made[1]
            findings += made[2]
        order = {b: n for n, b in enumerate(self._store.places)}
        return StockMap(
            self._store.site,
            self._mission,
            iso_utc(created_ns),
            tuple(sorted(bins, key=lambda b: order[b.bin_id])),
            tuple(products),
            tuple(sorted(findings, key=lambda f: (-f.value * f.confidence, order[f.bin_id], f.type))),
        )

    def _face(
        self,
        gondola: Gondola,
        clusters: Sequence[Cluster],
        tags: Sequence[TagReading],
        front: FaceFront,
        checks: Sequence[PlaceCheck],
        looks: Mapping[str, Look],
    ) -> tuple[list[BinState], list[PlacedProduct], list[Finding]]:
        seen = [Seen(c.first_id, c.face_m, c.size_m, c.score, c.candidates(), len(c.looks)) for c in clusters]
        places = self._store.places_of(gondola.gondola_id)
        matched = match_face(seen, places, self._planogram, self._catalogue, front, checks)
        tags_of = place_tags(tags, places)
        shifts = self._shifts(places, matched, tags_of)
        bins, products, findings = [], [], []
        for place in places:
            line = self._planogram[place.bin_id]
            product = self._catalogue[line.sku]
            look = looks.get(place.bin_id, Look(failure=self._failure(place.bay_id)))
            match = matched[place.bin_id]
            tag = agree(tags_of[place.bin_id]) if place.bin_id in tags_of else None
            position = _measured_centre(place, shifts.get(place.bay_id, (0.0, 0.0, 0.0)))
            state = bin_state(place, line, product, match, look, tag, position, iso_utc(look.stamp_ns))
            found = findings_of(place, line, product, match, look, tag, state)
            findings += found
            bins.append(replace(state, findings=tuple(f.finding_id for f in found)))
            products += [_product_row(p, place, self._catalogue) for p in match.placed]
        return bins, products, findings

    def _looks(self, scans: Sequence[BayScan]) -> dict[str, Look]:
        out: dict[str, Look] = {}
        pictures: dict[str, list[tuple[int, str]]] = {}
        for scan in scans:
            for c in scan.coverage:
                before = out.get(c.bin_id, Look())
                if c.evidence:
                    pictures.setdefault(c.bin_id, []).append((-c.seen.bit_count(), f"evidence/{c.evidence}"))
                seen = before.seen | c.seen
                out[c.bin_id] = Look(
                    seen,
                    (before.blocked | c.blocked) & ~seen,
                    max(before.stamp_ns, scan.stamp_ns),
                    (),
                    self._failure(self._store.places[c.bin_id].bay_id),
                )
        # The picture that shows most of a bin first.
        best = {b: tuple(name for _, name in sorted(found)[:EVIDENCE]) for b, found in pictures.items()}
        return {b: replace(look, evidence=best.get(b, ())) for b, look in out.items()}

    def _failure(self, bay_id: str) -> str:
        """Why viewpoints of a bay have no scan; empty when all have one."""
        scanned = {s.viewpoint_id for s in self._scans.values()}
        missing = [v for v, bays in self._bays.items() if bay_id in bays and v not in scanned]
        for v in missing:
            if v in self._failures:
                what, _ = self._failures[v]
                return str(UnseenReason.BLOCKED if what == "drive" else UnseenReason.SENSOR)
        return str(UnseenReason.SKIPPED) if missing else ""

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
                y.setdefault(place.bay_id, []).append(tag.face_m[1])
                z.setdefault(place.bay_id, []).append(tag.face_m[2] - (place.z0_m - TAG_BELOW_M))
        bays = {p.bay_id for p in places}
        return {b: (_median(x.get(b)), _median(y.get(b)), _median(z.get(b))) for b in bays}


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
    centre = apply(place.T_map_face, np.array([x, y + behind, z]))
    position = (round(float(centre[0]), 4), round(float(centre[1]), 4), round(float(centre[2]), 4))
    return PlacedProduct(p.key, place.bin_id, p.sku, position, p.confidence)
