"""Transforms by time: interpolation on a tree, and no answer for a time nobody told of."""

from __future__ import annotations

import math
import threading
import time

import numpy as np
import pytest

from shelfscan.errors import SensorError
from shelfscan.model.geometry import inverse, planar, pose2d_of
from shelfscan.ros.tf import TransformBuffer, topic_remaps

S = 1_000_000_000


def moving() -> TransformBuffer:
    """A base that drives along x at 1 m/s and turns, seen through odom, with a camera on it."""
    buffer = TransformBuffer()
    for i in range(5):
        buffer.add("map", "odom", i * S, planar(1.0, 2.0, math.pi / 2))
        buffer.add("odom", "base_link", i * S, planar(float(i), 0.0, 0.2 * i))
    buffer.add("base_link", "camera", 0, planar(0.0, 0.1, 0.0, z_m=1.45), static=True)
    return buffer


def test_interpolates_position_and_heading() -> None:
    pose = pose2d_of(moving().lookup("map", "base_link", int(1.25 * S)))
    assert (pose.x_m, pose.y_m, pose.yaw_rad) == pytest.approx((1.0, 3.25, math.pi / 2 + 0.25), abs=1e-9)


def test_goes_through_static_frames_both_ways() -> None:
    buffer = moving()
    there, back = buffer.lookup("map", "camera", 2 * S), buffer.lookup("camera", "map", 2 * S)
    np.testing.assert_allclose(there @ back, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(there, buffer.lookup("map", "base_link", 2 * S) @ planar(0.0, 0.1, 0.0, z_m=1.45), atol=1e-12)
    np.testing.assert_allclose(buffer.lookup("camera", "base_link", 99 * S), inverse(planar(0, 0.1, 0, z_m=1.45)), atol=1e-12)


def test_the_short_way_round() -> None:
    buffer = TransformBuffer()
    buffer.add("map", "base_link", 0, planar(0, 0, math.pi - 0.1))
    buffer.add("map", "base_link", S, planar(0, 0, -math.pi + 0.1))
    assert abs(pose2d_of(buffer.lookup("map", "base_link", S // 2)).yaw_rad) == pytest.approx(math.pi, abs=1e-6)


def test_never_extrapolates() -> None:
    buffer = moving()
    with pytest.raises(SensorError, match=r"odom -> base_link: asked 0\.500 s after the newest"):
        buffer.lookup("odom", "base_link", int(4.5 * S))
    with pytest.raises(SensorError, match=r"asked 1\.000 s before the oldest"):
        buffer.lookup("odom", "base_link", -S)
    with pytest.raises(SensorError, match="no transform from 'arm' to 'map'"):
        buffer.lookup("map", "arm", S)


def test_forgets_what_is_old_and_what_was_before_the_clock_was_set_back() -> None:
    buffer = TransformBuffer(keep_s=3.0)
    for i in range(10):
        buffer.add("map", "base_link", i * S, planar(i, 0, 0))
    with pytest.raises(SensorError, match="before the oldest"):
        buffer.lookup("map", "base_link", 5 * S)
    buffer.add("map", "base_link", 2 * S, planar(-7.0, 0, 0))
    assert pose2d_of(buffer.lookup("map", "base_link", 2 * S)).x_m == -7.0
    assert buffer.newest_ns("map", "base_link") == 2 * S
    with pytest.raises(SensorError):
        buffer.lookup("map", "base_link", 8 * S)


def test_newest_is_what_every_part_is_known_for() -> None:
    buffer = moving()
    buffer.add("odom", "base_link", 5 * S, planar(5, 0, 0))
    assert buffer.newest_ns("map", "camera") == 4 * S
    newest = buffer.newest("map", "base_link")
    assert newest is not None
    assert pose2d_of(newest).y_m == pytest.approx(6.0)
    assert buffer.newest("map", "arm") is None


def test_waits_for_what_is_on_its_way() -> None:
    buffer = moving()

    def later() -> None:
        time.sleep(0.15)
        buffer.add("map", "odom", 5 * S, planar(1.0, 2.0, math.pi / 2))
        buffer.add("odom", "base_link", 5 * S, planar(5.0, 0.0, 1.0))

    thread = threading.Thread(target=later)
    thread.start()
    assert pose2d_of(buffer.wait("map", "base_link", 5 * S, 5.0)).y_m == pytest.approx(7.0)
    thread.join()
    begun = time.monotonic()
    with pytest.raises(SensorError, match="after the newest"):
        buffer.wait("map", "base_link", 9 * S, 0.2)
    assert 0.2 <= time.monotonic() - begun < 2.0


def test_a_loop_of_frames_does_not_hang() -> None:
    buffer = TransformBuffer()
    buffer.add("a", "b", 0, planar(1, 0, 0))
    buffer.add("b", "a", 0, planar(1, 0, 0))
    with pytest.raises(SensorError, match="no transform"):
        buffer.lookup("map", "b", 0)


def test_a_second_node_of_the_process_hears_remapped_topics_under_its_own_name() -> None:
    argv = [
        "capture",
        "--ros-args",
        "-r",
        "__ns:=/shelfscan",
        "-r",
        "/odom:=/base/odom",
        "--remap",
        "__node:=c",
        "-p",
        "store:=x",
    ]
    assert topic_remaps(argv) == ["--ros-args", "-r", "/odom:=/base/odom"]
    assert topic_remaps(["capture"]) == []
