"""Captures recorded in a bag, without ROS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rosbags.typesys.store import Typestore

from shelfscan.adapters.bag_read import BagMessage, BagReader, Damage
from shelfscan.adapters.frame_msgs import CaptureCollector
from shelfscan.adapters.frames_cdr import EVENTS_TOPIC, FRAME_TYPE, SCAN_DONE, decode_event, frame_key
from shelfscan.adapters.msg_schema import typestore_of
from shelfscan.errors import BadInput, SensorError
from shelfscan.model.imaging import FrameBundle
from shelfscan.ports import Event

MISSION_TYPE = "shelfscan_msgs/msg/MissionState"
#: Heads of one capture follow each other closely; more open captures than this means lost messages.
OPEN_CAPTURES = 8


class BagFrameSource:
    """A `FrameSource` over a recorded bag: each capture once, in recording order, in memory of one capture.

    What could not be used is said in ``problems`` once `frames` is done: damages of the files, captures that miss a
    head, pictures that don't fit their calibration.
    """

    def __init__(self, path: Path) -> None:
        """Raises `BadInput` when the path is no bag, or holds no capture."""
        self.path = path
        self._reader = BagReader(path)
        self._types: dict[str, Typestore] = {}
        self.problems: list[str] = []
        #: The mission's recorded facts, in order, each once.
        self.events: list[Event] = []
        #: Store and mission as the bag names them; empty when it does not.
        self.site = ""
        self.mission_id = ""
        #: Different captures that the bag holds pictures of, complete or not.
        self.expected = 0
        self._survey()

    def _survey(self) -> None:
        """One pass over the small messages: whose bag is this, and is there anything to process?"""
        found: Counter[str] = Counter()
        keys: set[str] = set()
        frames: set[tuple[str, str]] = set()
        for m in self._reader.messages():
            found[f"{m.topic} ({m.type_name})"] += 1
            if m.type_name == FRAME_TYPE:
                try:
                    frames.add(frame_key(m.data)[:2])
                except BadInput as e:
                    self.problems.append(f"{self.path}: {m.topic}: {e}")
            elif m.type_name == MISSION_TYPE and not self.site:
                state = self._decode(m)
                if state is not None:
                    self.site, self.mission_id = str(state.site), str(state.mission_id)
            elif m.topic == EVENTS_TOPIC:
                try:
                    event = decode_event(m.data)
                except BadInput as e:
                    self.problems.append(f"{self.path}: {m.topic}: {e}")
                    continue
                if event.key not in keys:
                    keys.add(event.key)
                    self.events.append(event)
        self.damages = tuple(self._reader.damages)
        started = next((e for e in self.events if e.kind == "mission.started"), None)
        if started is not None:
            self.mission_id = str(started.payload.get("mission_id", ""))
            self.site = str(dict(started.payload.get("plan", {})).get("site", self.site))
        self.expected = len(frames)
        if frames:
            return
        if self.damages:
            raise BadInput([str(d) for d in self.damages])
        topics = ", ".join(sorted(found)[:12]) or "nothing"
        raise BadInput(f"{self.path}: no {FRAME_TYPE} in this bag; it holds {topics}")

    def frames(self) -> Iterator[FrameBundle]:
        """See `FrameSource.frames`. Captures recorded twice come once."""
        collector = CaptureCollector(OPEN_CAPTURES)
        done: set[tuple[str, str]] = set()
        started: dict[tuple[str, str], None] = {}
        unusable: list[str] = []
        for m in self._reader.messages():
            if m.type_name != FRAME_TYPE:
                continue
            message = self._decode(m)
            if message is None:
                unusable.append(f"{self.path}: a message on {m.topic} does not fit its definition")
                continue
            key = (str(message.mission_id), str(message.capture_id))
            if key in done:
                continue
            started[key] = None
            try:
                bundle = collector.add(message)
            except SensorError as e:
                done.add(key)
                unusable.append(f"{self.path}: {e}")
                continue
            if bundle is not None:
                done.add(key)
                yield bundle
        lost = [f"{self.path}: capture {key[1]}: not all heads are in the bag" for key in started if key not in done]
        self.problems += unusable + lost

    @property
    def scanned(self) -> frozenset[str] | None:
        """Ids of the captures whose scans the ended mission had; None when the recording does not know them all."""
        done = {str(e.payload["capture_id"]) for e in self.events if e.kind == SCAN_DONE}
        ended = any(e.kind == "mission.ended" for e in self.events)
        return frozenset(done) if done and ended else None

    def messages(self, topic: str) -> Iterator[BagMessage]:
        """What was recorded on one topic, serialised."""
        return self._reader.messages([topic])

    def capture(self, mission_id: str, viewpoint_id: str) -> FrameBundle:
        """Always raises `SensorError`: what is recorded is recorded."""
        raise SensorError(f"{self.path}: a bag takes no new captures")

    def _decode(self, m: BagMessage) -> Any:
        """The message by its own bag's definition, or None when the bytes don't fit it."""
        if m.type_name not in self._types:
            text = self._reader.schemas.get(m.type_name)
            if text is None:
                raise BadInput(f"{self.path}: {m.topic}: {m.type_name} comes without a ros2msg definition")
            self._types[m.type_name] = typestore_of({m.type_name: text})
        try:
            return self._types[m.type_name].deserialize_cdr(m.data, m.type_name)
        except Exception:  # noqa: BLE001 - generated code raises whatever the damaged bytes lead to
            return None


__all__ = ["BagFrameSource", "Damage"]
