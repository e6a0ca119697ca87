"""What stands at the planned places of the shelf, whether or not a box was found there: looked at where it should be."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from shelfscan.model.catalogue import Catalogue
from shelfscan.model.detections import Candidate
from shelfscan.model.imaging import FrameBundle, Rgb
from shelfscan.model.planogram import Planogram
from shelfscan.model.scan import FrontGrid, PlaceCheck
from shelfscan.model.store import BinPlace
from shelfscan.perception.damage import LEAST_COSINE, MOST_HIDDEN, SUSPECT, Reference, anomalies, reference_of
from shelfscan.perception.dates import ExpiryReading, days_until
from shelfscan.perception.evidence import jpeg
from shelfscan.perception.localise import FaceView
from shelfscan.perception.looks import PlannedLook, planned_looks
from shelfscan.perception.orientation import Turn, in_doubt, turns
from shelfscan.perception.recognise import Look, Recogniser
from shelfscan.perception.stage import Stage

#: Only looks that show the planned SKU with this score are judged for damage.
SHOWN = 0.5
#: Dates take a second a crop: they are read where an item is seen straight on and large enough.
DATE_COSINE, DATE_LEAST_PX = 0.97, 80
#: SKUs whose reference pictures are kept ready for damage.
REFERENCES_KEPT = 1000

#: Reads the expiry date on an upright (h, w, 3) picture of a pack.
DateReader = Callable[[Rgb], ExpiryReading]


@dataclass(frozen=True)
class Planned:
    """What a head shows of a planned place, the SKU that is planned there, and its crop held against the gallery."""

    look: PlannedLook
    sku: str
    held: Look


class PlaceChecker:
    """Names, turn, damage and expiry date of what stands at planned places. Safe to ask from several threads at once.

    ``dates`` reads expiry dates, None: they are not read; ``near_days``: dates so near are told.
    """

    def __init__(
        self,
        planogram: Planogram,
        catalogue: Catalogue,
        recogniser: Recogniser,
        *,
        damage: bool,
        dates: DateReader | None,
        near_days: int,
    ) -> None:
        self._planogram, self._catalogue, self._recogniser = planogram, catalogue, recogniser
        self._damage, self._dates, self._near_days = damage, dates, near_days
        self._reading = threading.Lock()
        self._references: dict[str, list[Reference]] = {}

    def planned(self, view: FaceView, picture: Rgb, grid: FrontGrid, places: Sequence[BinPlace], stage: Stage) -> list[Planned]:
        """The planned places that one head shows, held against the gallery."""
        with stage("look"):
            looks = planned_looks(view, picture, grid, places, self._planogram, self._catalogue)
        with stage("check"):
            held = list(self._recogniser.looks([look.crop for look in looks]))
        return [Planned(look, self._planogram[look.bin_id].sku, h) for look, h in zip(looks, held, strict=True)]

    def judge(
        self,
        bundle: FrameBundle,
        head: str,
        places: Sequence[Planned],
        named: Sequence[tuple[Candidate, ...]],
        stage: Stage,
    ) -> tuple[list[PlaceCheck], dict[str, bytes]]:
        """The checks of the places that one head shows, and the evidence pictures (JPEG by name) of what may be damaged.

        ``named``: for each place what stands there, as its look says, the planned SKU among it.
        """
        looks, planned = [p.look for p in places], [p.sku for p in places]
        with stage("condition"):
            turned = self._turned([look.crop for look in looks], planned, named)
            damage = self._damaged(looks, planned, named) if self._damage else [0.0] * len(looks)
            near = self.near_expiry(bundle, looks, planned, named)
        pictures = [""] * len(looks)
        evidence: dict[str, bytes] = {}
        for n, look in enumerate(looks):
            if damage[n] >= SUSPECT:
                place = f"c{look.column}r{look.row}"
                pictures[n] = f"{look.bin_id}/{bundle.capture_id}-{head}-{place}.jpg"
                evidence[pictures[n]] = jpeg(look.crop)
        checks = [
            PlaceCheck(
                bin_id=look.bin_id,
                column=look.column,
                row=look.row,
                head=head,
                depth_m=round(look.depth_m, 4),
                weight=round(look.cosine**4, 3),
                candidates=(candidates[0], *(c for c in candidates[1:] if c.sku == sku)),
                turn=turn,
                damage=differs,
                evidence=name,
                near_expiry=expires,
            )
            for look, sku, candidates, turn, differs, name, expires in zip(
                looks, planned, named, turned, damage, pictures, near, strict=True
            )
        ]
        return checks, evidence

    def near_expiry(
        self,
        bundle: FrameBundle,
        looks: Sequence[PlannedLook],
        planned: Sequence[str],
        named: Sequence[Sequence[Candidate]],
    ) -> list[str]:
        """The expiry date of each look that shows the planned SKU straight on, where it is near; else empty."""
        out = [""] * len(looks)
        if self._dates is None:
            return out
        today = datetime.fromtimestamp(bundle.stamp_ns / 1e9, timezone.utc).date()
        for n, (look, sku, candidates) in enumerate(zip(looks, planned, named, strict=True)):
            shown = any(c.sku == sku and c.score >= SHOWN for c in candidates)
            if shown and look.cosine >= DATE_COSINE and min(look.crop.shape[:2]) >= DATE_LEAST_PX:
                with self._reading:
                    iso = self._dates(look.crop).iso
                days = days_until(iso, today)
                out[n] = iso if days is not None and days <= self._near_days else ""
        return out

    def _damaged(
        self, looks: Sequence[PlannedLook], planned: Sequence[str], named: Sequence[Sequence[Candidate]]
    ) -> list[float]:
        """How much each look differs from its kind, where it shows the planned SKU squarely; 0 elsewhere."""
        out = [0.0] * len(looks)
        of_sku: dict[str, list[int]] = {}
        for n, (look, sku, candidates) in enumerate(zip(looks, planned, named, strict=True)):
            shown = any(c.sku == sku and c.score >= SHOWN for c in candidates)
            if shown and look.cosine >= LEAST_COSINE and look.hidden <= MOST_HIDDEN:
                of_sku.setdefault(sku, []).append(n)
        for sku, members in of_sku.items():
            chosen = [looks[n] for n in members]
            found = anomalies([c.crop for c in chosen], [c.clear_px for c in chosen], self._references_of(sku))
            for n, differs in zip(members, found, strict=True):
                out[n] = differs
        return out

    def _references_of(self, sku: str) -> list[Reference]:
        known = self._references.get(sku)
        if known is None:
            known = [reference_of(d) for d in self._recogniser.details(sku)]
            if len(self._references) >= REFERENCES_KEPT:
                self._references.clear()
            self._references[sku] = known
        return known

    def _turned(self, crops: Sequence[Rgb], planned: Sequence[str], named: Sequence[Sequence[Candidate]]) -> list[str]:
        """How each planned item is turned, as `PlaceCheck.turn` says it."""
        out = [""] * len(crops)
        known = self._recogniser.skus
        doubtful = [n for n, c in enumerate(named) if planned[n] in known and in_doubt(c)]
        found = turns(self._recogniser, [crops[n] for n in doubtful], [planned[n] for n in doubtful])
        for n, turn in zip(doubtful, found, strict=True):
            out[n] = {Turn.UPRIGHT: "", Turn.RIGHT: "lying", Turn.LEFT: "lying"}.get(turn, str(turn))
        return out
