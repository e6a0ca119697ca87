"""``shelfscan_msgs/HeadFrame`` messages to `FrameBundle`, whoever decoded them: rclpy, or a bag reader without ROS.

Nothing here imports ROS; messages are read by their fields.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from shelfscan.errors import SensorError
from shelfscan.model.geometry import Array, from_quaternion
from shelfscan.model.imaging import Camera, FrameBundle, Gray, Head, HeadFrame, Intrinsics

GRAY_ENCODINGS = ("mono8", "8UC1")


def stamp_ns_of(stamp: Any) -> int:
    """Nanoseconds of a ``builtin_interfaces/Time``."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def matrix_of(pose: Any) -> Array:
    """(4, 4) of a ``geometry_msgs/Pose``. Raises `SensorError` when its quaternion has no length."""
    q, p = pose.orientation, pose.position
    quaternion = (float(q.x), float(q.y), float(q.z), float(q.w))
    if not 0.5 < sum(v * v for v in quaternion) < 2.0:
        raise SensorError(f"a pose's quaternion {quaternion} is not of length 1")
    return from_quaternion(quaternion, (float(p.x), float(p.y), float(p.z)))


def intrinsics_of(info: Any) -> Intrinsics:
    """Intrinsics of a ``sensor_msgs/CameraInfo``. Raises `SensorError` when they are not filled in."""
    k, d = [float(v) for v in info.k], [float(v) for v in info.d]
    if int(info.width) <= 0 or int(info.height) <= 0 or len(k) != 9 or k[0] <= 0 or k[4] <= 0:
        raise SensorError(f"camera_info of {info.header.frame_id!r} is not calibrated: {info.width}x{info.height}, k {k}")
    if len(d) > 5 and any(d[5:]):
        raise SensorError(f"camera_info of {info.header.frame_id!r}: distortion of {len(d)} coefficients; expected at most 5")
    return Intrinsics(int(info.width), int(info.height), k[0], k[4], k[2], k[5], tuple((d + [0.0] * 5)[:5]))


def gray_of(image: Any) -> Gray:
    """(H, W) uint8 of a mono8 ``sensor_msgs/Image``; a view of its data. Raises `SensorError` with the facts."""
    width, height, step = int(image.width), int(image.height), int(image.step)
    if image.encoding not in GRAY_ENCODINGS:
        raise SensorError(f"picture of {image.header.frame_id!r} is {image.encoding!r}; expected mono8")
    data = np.frombuffer(image.data, np.uint8)
    if step < width or data.size != step * height or not data.size:
        raise SensorError(
            f"picture of {image.header.frame_id!r} has {data.size} bytes; expected {step} x {height} for {width}x{height} mono8"
        )
    return np.asarray(data.reshape(height, step)[:, :width])


def jpeg_of(compressed: Any) -> bytes:
    """The bytes of a JPEG ``sensor_msgs/CompressedImage``. Raises `SensorError` for any other format."""
    data = bytes(compressed.data)
    if not data.startswith(b"\xff\xd8"):
        raise SensorError(f"picture of {compressed.header.frame_id!r} ({compressed.format!r}, {len(data)} bytes) is not a JPEG")
    return data


def bundle_from_msgs(msgs: Iterable[Any]) -> FrameBundle:
    """The capture made of all its ``HeadFrame`` messages, in any order.

    Raises `SensorError` when a head is missing or there twice, messages are of different captures, or a picture's
    size, encoding or calibration is wrong.
    """
    parts = sorted(msgs, key=lambda m: int(m.index))
    if not parts:
        raise SensorError("a capture without any picture")
    first = parts[0]
    for m in parts[1:]:
        if (m.mission_id, m.capture_id) != (first.mission_id, first.capture_id):
            raise SensorError(f"pictures of captures {first.capture_id!r} and {m.capture_id!r} are mixed")
    found, expected = [int(m.index) for m in parts], list(range(int(first.heads)))
    if found != expected:
        names = ", ".join(f"{m.index} ({m.head})" for m in parts)
        raise SensorError(f"capture {first.capture_id}: expected heads 0..{int(first.heads) - 1}, found {names}")
    try:
        frames = tuple(_head_frame(m) for m in parts)
        pose = matrix_of(first.map_to_base)
    except SensorError as e:
        raise SensorError(f"capture {first.capture_id}: {e}") from e
    return FrameBundle(
        str(first.mission_id),
        str(first.viewpoint_id),
        str(first.capture_id),
        stamp_ns_of(first.header.stamp),
        pose,
        frames,
    )


def _head_frame(m: Any) -> HeadFrame:
    try:
        left_info, right_info, rgb_info = (intrinsics_of(i) for i in (m.left_info, m.right_info, m.rgb_info))
        left, right, jpeg = gray_of(m.left), gray_of(m.right), jpeg_of(m.rgb)
        for name, shape, info in (
            ("left", left.shape, left_info),
            ("right", right.shape, right_info),
            ("rgb", _jpeg_shape(jpeg), rgb_info),
        ):
            if shape != (info.height_px, info.width_px):
                raise SensorError(f"{name} is {shape[1]}x{shape[0]}, its camera_info says {info.width_px}x{info.height_px}")
        head = Head(
            str(m.head),
            Camera(left_info, matrix_of(m.base_to_left)),
            Camera(right_info, matrix_of(m.base_to_right)),
            Camera(rgb_info, matrix_of(m.base_to_rgb)),
        )
    except SensorError as e:
        raise SensorError(f"head {m.head}: {e}") from e
    return HeadFrame(head, left, right, jpeg)


def _jpeg_shape(data: bytes) -> tuple[int, int]:
    """(H, W) from the JPEG's header; the pixels are not decoded."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            return picture.height, picture.width
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as e:
        raise SensorError(f"a JPEG of {len(data)} bytes has no readable header: {e}") from e


class CaptureCollector:
    """Puts captures together from a stream of `HeadFrame` messages. Not thread-safe.

    Keeps the newest ``limit`` incomplete captures, so a head that never arrives costs bounded memory.
    """

    def __init__(self, limit: int = 4) -> None:
        self._limit = limit
        self._parts: dict[tuple[str, str], dict[int, Any]] = {}

    def add(self, msg: Any) -> FrameBundle | None:
        """The capture this message completes, or None. Raises `SensorError` when the complete capture is unusable."""
        key = (str(msg.mission_id), str(msg.capture_id))
        parts = self._parts.setdefault(key, {})
        parts[int(msg.index)] = msg
        if len(parts) >= int(msg.heads):
            del self._parts[key]
            return bundle_from_msgs(parts.values())
        while len(self._parts) > self._limit:
            del self._parts[next(iter(self._parts))]
        return None

    @property
    def incomplete(self) -> Sequence[str]:
        """Ids of captures some head of which has not arrived, oldest first."""
        return [capture_id for _, capture_id in self._parts]
