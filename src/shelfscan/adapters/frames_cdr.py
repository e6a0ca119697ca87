"""Captures to serialised ``shelfscan_msgs/HeadFrame`` without ROS, and ledger events to what a bag keeps of them.

The fields are filled as the ROS side fills them, so a capture recorded here reads back as one that came over the wire.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import numpy as np
from rosbags.typesys.store import Typestore

from shelfscan.adapters.msg_schema import schema_text, typestore_of
from shelfscan.errors import BadInput
from shelfscan.model.geometry import Array, quaternion_of
from shelfscan.model.imaging import Camera, FrameBundle, Gray, HeadFrame, Intrinsics
from shelfscan.ports import Event

FRAME_TYPE = "shelfscan_msgs/msg/HeadFrame"
FRAMES_TOPIC = "/shelfscan/frames"
EVENT_TYPE = "std_msgs/msg/String"
#: Only in bags: the mission's facts (not its scans), so that a replay knows what the live run knew.
EVENTS_TOPIC = "/shelfscan/mission_events"
SCAN_DONE = "scan.done"


@lru_cache(maxsize=1)
def _types() -> Typestore:
    return typestore_of({t: schema_text(t) for t in (FRAME_TYPE, EVENT_TYPE)})


def encode_capture(bundle: FrameBundle) -> list[bytes]:
    """One CDR ``HeadFrame`` a head, in the order of the heads."""
    return [_encode(bundle, frame, n) for n, frame in enumerate(bundle.frames)]


def _encode(bundle: FrameBundle, frame: HeadFrame, index: int) -> bytes:
    make = _Maker(_types(), bundle.stamp_ns)
    head = frame.head
    names = {c: f"{head.name}_{c}_optical_frame" for c in ("left", "right", "rgb")}
    message = make(
        FRAME_TYPE,
        header=make.header(names["rgb"]),
        mission_id=bundle.mission_id,
        viewpoint_id=bundle.viewpoint_id,
        capture_id=bundle.capture_id,
        head=head.name,
        index=index,
        heads=len(bundle.frames),
        map_to_base=make.pose(bundle.T_map_base),
        base_to_left=make.pose(head.left.T_base_optical),
        base_to_right=make.pose(head.right.T_base_optical),
        base_to_rgb=make.pose(head.rgb.T_base_optical),
        left_info=make.camera_info(head.left, names["left"]),
        right_info=make.camera_info(head.right, names["right"], head.baseline_m),
        rgb_info=make.camera_info(head.rgb, names["rgb"]),
        left=make.image(frame.left, names["left"]),
        right=make.image(frame.right, names["right"]),
        rgb=make(
            "sensor_msgs/msg/CompressedImage",
            header=make.header(names["rgb"]),
            format="jpeg",
            data=np.frombuffer(frame.rgb_jpeg, np.uint8),
        ),
    )
    return bytes(_types().serialize_cdr(message, FRAME_TYPE))


class _Maker:
    """Builds messages that carry one stamp."""

    def __init__(self, types: Typestore, stamp_ns: int) -> None:
        self._types, self._stamp_ns = types, stamp_ns

    def __call__(self, type_name: str, **fields: Any) -> Any:
        return self._types.types[type_name](**fields)

    def header(self, frame_id: str) -> Any:
        seconds, nanoseconds = divmod(self._stamp_ns, 1_000_000_000)
        stamp = self("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)
        return self("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)

    def pose(self, T: Array) -> Any:
        x, y, z, w = quaternion_of(T)
        px, py, pz = (float(v) for v in T[:3, 3])
        return self(
            "geometry_msgs/msg/Pose",
            position=self("geometry_msgs/msg/Point", x=px, y=py, z=pz),
            orientation=self("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w),
        )

    def camera_info(self, camera: Camera, frame_id: str, baseline_m: float = 0.0) -> Any:
        i: Intrinsics = camera.intrinsics
        return self(
            "sensor_msgs/msg/CameraInfo",
            header=self.header(frame_id),
            height=i.height_px,
            width=i.width_px,
            distortion_model="plumb_bob",
            d=np.array(i.distortion, np.float64),
            k=np.ascontiguousarray(i.matrix().ravel(), np.float64),
            r=np.eye(3).ravel(),
            p=np.array([i.fx_px, 0, i.cx_px, -i.fx_px * baseline_m, 0, i.fy_px, i.cy_px, 0, 0, 0, 1, 0], np.float64),
            binning_x=0,
            binning_y=0,
            roi=self("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
        )

    def image(self, gray: Gray, frame_id: str) -> Any:
        height, width = gray.shape
        return self(
            "sensor_msgs/msg/Image",
            header=self.header(frame_id),
            height=height,
            width=width,
            encoding="mono8",
            is_bigendian=0,
            step=width,
            data=np.ascontiguousarray(gray).ravel(),
        )


def scan_done(mission_id: str, viewpoint_id: str, capture_id: str, stamp_ns: int) -> Event:
    """What a bag keeps of a scan in the ledger: that there is one. A replay makes the scan itself again."""
    body = {"mission_id": mission_id, "viewpoint_id": viewpoint_id, "capture_id": capture_id}
    return Event(SCAN_DONE, f"{SCAN_DONE}/{mission_id}/{capture_id}", stamp_ns, body)


def encode_event(event: Event) -> bytes:
    """A ledger event as a CDR ``std_msgs/String`` of JSON."""
    facts = {"kind": event.kind, "key": event.key, "stamp_ns": event.stamp_ns, "payload": dict(event.payload)}
    text = json.dumps(facts, separators=(",", ":"))
    return bytes(_types().serialize_cdr(_types().types[EVENT_TYPE](data=text), EVENT_TYPE))


def decode_event(data: bytes) -> Event:
    """Inverse of `encode_event`. Raises `BadInput` saying what is wrong."""
    try:
        message: Any = _types().deserialize_cdr(data, EVENT_TYPE)
        found = json.loads(message.data)
        return Event(str(found["kind"]), str(found["key"]), int(found["stamp_ns"]), dict(found["payload"]))
    except Exception as e:  # damaged bytes make the decoder raise anything
        raise BadInput(f"not a mission event: {e}") from e


def frame_key(data: bytes) -> tuple[str, str, str]:
    """(mission_id, capture_id, head) of a serialised ``HeadFrame``; reads its first fields only.

    Raises `BadInput` when the bytes are too short or no little-endian CDR.
    """
    if len(data) < 12 or data[1] & 1 == 0:
        raise BadInput("not a little-endian CDR message")
    at = 12  # encapsulation, stamp
    texts = []
    for _ in range(5):  # frame_id, mission_id, viewpoint_id, capture_id, head
        at += -(at - 4) % 4
        size = int.from_bytes(data[at : at + 4], "little")
        if size < 1 or at + 4 + size > len(data):
            raise BadInput(f"a text at byte {at} does not end within the message's {len(data)} bytes")
        try:
            texts.append(data[at + 4 : at + 3 + size].decode())
        except UnicodeDecodeError as e:
            raise BadInput(f"a text at byte {at} is not UTF-8") from e
        at += 4 + size
    return texts[1], texts[3], texts[4]
