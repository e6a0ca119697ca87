"""A capture survives the wire byte for byte, and whatever is wrong with a message is said with the facts."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image
from shelfscan_msgs.msg import HeadFrame as HeadFrameMsg

from shelfscan.adapters.frame_msgs import CaptureCollector, bundle_from_msgs
from shelfscan.adapters.msg_schema import schema_text
from shelfscan.errors import SensorError
from shelfscan.model.geometry import Pose2D, pose2d_of
from shelfscan.model.imaging import FrameBundle, HeadFrame
from shelfscan.paths import default_robot_file
from shelfscan.robotfile import read_robot
from shelfscan.ros.convert import bundle_to_msgs, pose2d_from, stamp_ns_of, to_jpeg, to_mono8, to_pose, to_stamp

RIG = read_robot(default_robot_file()).rig


def noise_bundle(capture_id: str = "v1-17") -> FrameBundle:
    rng = np.random.default_rng(5)
    frames = []
    for head in RIG.heads:
        s, c = head.left.intrinsics, head.rgb.intrinsics
        left, right = (rng.integers(0, 256, (s.height_px, s.width_px), dtype=np.uint8) for _ in range(2))
        small = rng.integers(0, 256, (c.height_px // 8, c.width_px // 8, 3), dtype=np.uint8)
        done, jpeg = cv2.imencode(".jpg", cv2.resize(small, (c.width_px, c.height_px)), [cv2.IMWRITE_JPEG_QUALITY, 90])
        assert done
        frames.append(HeadFrame(head, left, right, jpeg.tobytes()))
    pose = Pose2D(12.345, -6.789, 2.5).matrix()
    return FrameBundle("m1", "v1", capture_id, 1_795_576_487_890_073_666, pose, tuple(frames))


def over_the_wire(bundle: FrameBundle) -> list[HeadFrameMsg]:
    return [deserialize_message(serialize_message(m), HeadFrameMsg) for m in bundle_to_msgs(bundle)]


def test_a_capture_survives_the_wire() -> None:
    before = noise_bundle()
    after = bundle_from_msgs(reversed(over_the_wire(before)))
    assert (after.mission_id, after.viewpoint_id, after.capture_id, after.stamp_ns) == ("m1", "v1", "v1-17", before.stamp_ns)
    np.testing.assert_allclose(after.T_map_base, before.T_map_base, atol=1e-9)
    assert [f.head.name for f in after.frames] == ["low", "high"]
    for a, b in zip(after.frames, before.frames, strict=True):
        assert np.array_equal(a.left, b.left)
        assert np.array_equal(a.right, b.right)
        assert a.rgb_jpeg == b.rgb_jpeg
        for camera in ("left", "right", "rgb"):
            got, want = getattr(a.head, camera), getattr(b.head, camera)
            assert got.intrinsics == want.intrinsics
            np.testing.assert_allclose(got.T_base_optical, want.T_base_optical, atol=1e-9)
        assert a.head.baseline_m == pytest.approx(b.head.baseline_m, abs=1e-9)


def test_a_message_is_read_the_same_without_ros() -> None:
    """What a bag holds is decoded by a library that knows no ROS; the capture must be the same."""
    mcap_ros2 = pytest.importorskip("mcap_ros2.decoder")
    from mcap.records import Schema

    before = noise_bundle()
    text = schema_text("shelfscan_msgs/msg/HeadFrame")
    schema = Schema(id=1, name="shelfscan_msgs/msg/HeadFrame", encoding="ros2msg", data=text.encode())
    decode = mcap_ros2.DecoderFactory().decoder_for("cdr", schema)
    assert decode is not None
    after = bundle_from_msgs([decode(serialize_message(m)) for m in bundle_to_msgs(before)])
    assert after.stamp_ns == before.stamp_ns
    for a, b in zip(after.frames, before.frames, strict=True):
        assert np.array_equal(a.left, b.left)
        assert np.array_equal(a.right, b.right)
        assert a.rgb_jpeg == b.rgb_jpeg
        assert a.head.rgb.intrinsics == b.head.rgb.intrinsics


def _break(change: Callable[[list[HeadFrameMsg]], object]) -> str:
    msgs = bundle_to_msgs(noise_bundle())
    change(msgs)
    with pytest.raises(SensorError) as caught:
        bundle_from_msgs(msgs)
    return str(caught.value)


def test_what_is_wrong_is_said_with_the_facts() -> None:
    assert _break(lambda m: m.clear()) == "a capture without any picture"
    assert _break(lambda m: m.pop()) == "capture v1-17: expected heads 0..1, found 0 (low)"
    assert _break(lambda m: m.append(m[0])) == "capture v1-17: expected heads 0..1, found 0 (low), 0 (low), 1 (high)"
    assert "v2" in _break(lambda m: setattr(m[1], "capture_id", "v2"))
    assert "head high: picture of 'high_left_optical_frame' is 'rgb8'; expected mono8" in _break(
        lambda m: setattr(m[1].left, "encoding", "rgb8")
    )
    assert "head low: left is 1280x720, its camera_info says 640x720" in _break(lambda m: setattr(m[0].left_info, "width", 640))
    assert "921600 bytes; expected 1280 x 719" in _break(lambda m: setattr(m[0].right, "height", 719))
    assert "not calibrated" in _break(lambda m: setattr(m[0], "rgb_info", type(m[0].rgb_info)()))
    no_length = type(bundle_to_msgs(noise_bundle())[0].map_to_base.orientation)(x=0.0, y=0.0, z=0.0, w=0.0)
    assert "not of length 1" in _break(lambda m: setattr(m[0].map_to_base, "orientation", no_length))


def test_a_picture_that_is_no_jpeg_is_refused() -> None:
    assert "('jpeg', 11 bytes) is not a JPEG" in _break(lambda m: setattr(m[1].rgb, "data", list(b"no picture!")))
    assert "no readable header" in _break(lambda m: setattr(m[1].rgb, "data", m[1].rgb.data[:3]))


def test_a_collector_completes_captures_out_of_order_and_forgets_what_never_completes() -> None:
    collector = CaptureCollector(limit=2)
    a, b = bundle_to_msgs(noise_bundle("a")), bundle_to_msgs(noise_bundle("b"))
    assert collector.add(a[1]) is None
    assert collector.add(b[0]) is None
    got = collector.add(a[0])
    assert got is not None and got.capture_id == "a"
    for name in ("c", "d"):
        assert collector.add(bundle_to_msgs(noise_bundle(name))[0]) is None
    assert collector.incomplete == ["c", "d"]
    assert collector.add(b[1]) is None, "b's first half was forgotten"


def test_a_real_cameras_encodings_become_ours() -> None:
    rng = np.random.default_rng(1)
    bgr = cv2.resize(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), (64, 48))
    # A driver may pad its rows.
    rows = np.zeros((48, 200), np.uint8)
    rows[:, :192] = bgr.reshape(48, 192)
    raw = Image(height=48, width=64, encoding="bgr8", step=200, data=rows.tobytes())
    mono = to_mono8(raw)
    assert (mono.encoding, mono.width, mono.height, mono.step) == ("mono8", 64, 48, 64)
    assert np.array_equal(np.frombuffer(mono.data, np.uint8).reshape(48, 64), cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY))
    back = cv2.imdecode(np.frombuffer(to_jpeg(raw).data, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(back.astype(int) - bgr).mean() < 6
    for convert in (to_mono8, to_jpeg):
        with pytest.raises(SensorError, match="'16UC1'"):
            convert(Image(height=48, width=64, encoding="16UC1", step=128, data=bytes(128 * 48)))
    with pytest.raises(SensorError, match="has 10 bytes"):
        to_mono8(Image(height=48, width=64, encoding="mono8", step=64, data=bytes(10)))


@given(st.integers(0, 2**31 * 1_000_000_000 - 1))
def test_stamps_keep_every_nanosecond(ns: int) -> None:
    assert stamp_ns_of(to_stamp(ns)) == ns


@given(st.floats(-100, 100), st.floats(-100, 100), st.floats(-3.14, 3.14))
def test_planar_poses_come_back(x: float, y: float, yaw: float) -> None:
    pose = Pose2D(x, y, yaw)
    back = pose2d_from(to_pose(pose.matrix()))
    assert (back.x_m, back.y_m, back.yaw_rad) == pytest.approx((x, y, yaw), abs=1e-9)
    assert pose2d_of(pose.matrix()).yaw_rad == pytest.approx(yaw, abs=1e-9)
