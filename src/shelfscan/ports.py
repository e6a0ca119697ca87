"""The few doors between the core and the world. Each has a fake that enforces the same rules, and one contract test."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from shelfscan.model.detections import Detections
from shelfscan.model.geometry import Pose2D
from shelfscan.model.imaging import FrameBundle, Rgb


class Detector(Protocol):
    """Finds products, price tags and empty places in an upright RGB picture."""

    def detect(self, picture: Rgb) -> Detections:
        """Boxes in pixels of ``picture`` ((H, W, 3) uint8 RGB), best first, after non-maximum suppression."""
        ...

    @property
    def description(self) -> str:
        """Model, backend and precision in one line, for reports."""
        ...


class Embedder(Protocol):
    """Turns product crops into unit vectors whose dot product is a similarity."""

    def embed(self, crops: Sequence[Rgb]) -> NDArray[np.float32]:
        """(N, D) float32, each row of length 1; crops are (h, w, 3) uint8 RGB of any size."""
        ...

    @property
    def description(self) -> str:
        """Model, backend and precision in one line, for reports."""
        ...


class PeopleFinder(Protocol):
    """Finds people, and parts of them, in an upright RGB picture."""

    def find(self, picture: Rgb) -> NDArray[np.bool_]:
        """(h, w) bool, True where a person may be, over the whole ``picture`` ((H, W, 3) uint8 RGB) at any resolution."""
        ...

    @property
    def description(self) -> str:
        """Model and backend in one line, for reports."""
        ...


@dataclass(frozen=True, slots=True)
class TagText:
    """What stands on a price tag; empty where it could not be read for sure.

    ``confidence`` is the price's. ``currency``: ISO 4217 where the sign says it, otherwise the sign as printed;
    ``unit_price_text`` a ``unit_text`` ("kg", "100 g", "l", "st" for a piece). Readers may look for less than all of it.
    """

    price_text: str = ""
    item_text: str = ""
    ean_text: str = ""
    confidence: float = 0.0
    currency: str = ""
    unit_price_text: str = ""
    unit_text: str = ""
    name_text: str = ""
    promotion: bool = False


class TagReader(Protocol):
    """Reads a price tag."""

    def read(self, crop: Rgb) -> TagText:
        """``crop`` is an upright (h, w, 3) uint8 RGB picture of one tag. Abstains (empty texts) when unsure."""
        ...


class FrameSource(Protocol):
    """Where captures come from: robot, simulator, bag, folder."""

    def frames(self) -> Iterator[FrameBundle]:
        """Recorded captures in order. Live sources raise `SensorError` here."""
        ...

    def capture(self, mission_id: str, viewpoint_id: str) -> FrameBundle:
        """A new, synchronised capture now, its pose fixed. Raises `SensorError`; recorded sources always do."""
        ...


@dataclass(frozen=True, slots=True)
class NavResult:
    """How a drive ended. ``pose`` is the base in ``map`` at the end; ``error_code`` is Nav2's (0 none)."""

    ok: bool
    pose: Pose2D | None = None
    error_code: int = 0
    message: str = ""


class Navigator(Protocol):
    """Drives. Calls block until the drive ended or ``timeout_s`` passed; they never raise for a failed drive."""

    def go_to(self, pose: Pose2D, timeout_s: float) -> NavResult: ...

    def undock(self, timeout_s: float) -> NavResult: ...

    def dock(self, timeout_s: float) -> NavResult: ...

    def stop(self) -> None:
        """Cancel what is being driven, from any thread."""
        ...


@dataclass(frozen=True)
class Event:
    """A fact. ``key`` makes it happen once: appending the same key again changes nothing."""

    kind: str
    key: str
    stamp_ns: int
    payload: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredEvent:
    """A fact the ledger has acknowledged; ``seq`` grows by at least one per event."""

    seq: int
    event: Event


class Ledger(Protocol):
    """Append-only facts that survive anything. Safe to use from several processes at once."""

    def append(self, events: Sequence[Event]) -> int:
        """Store all or none, durably, before returning; known keys are skipped. Returns the last ``seq``."""
        ...

    def read(self, after: int = 0, kinds: Collection[str] | None = None) -> list[StoredEvent]:
        """Events with ``seq > after``, in order."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class OneWriter(Protocol):
    """A ledger that several computers can reach, where a lock of one of them says nothing to the others."""

    def writer(self, wms: str) -> AbstractContextManager[None]:
        """The right to bring this store's counts to a warehouse system, which one process has at a time and loses with its end.

        Raises `WmsTransient` while another has it. Inside, an append that is acknowledged was made with the right still held;
        `LedgerError` when the line broke and another process had it since.
        """
        ...


class Notifier(Protocol):
    """Tells a person."""

    def notify(self, title: str, body: str) -> None: ...
