"""Bags: what other tools read, what a kill leaves behind, what damage costs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fakes.captures import HEADS, capture
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from rosbags.highlevel import AnyReader

from shelfscan.adapters.bag_record import BagRecording
from shelfscan.adapters.bag_write import BagWriter, mend_bag
from shelfscan.adapters.frames_cdr import (
    EVENT_TYPE,
    EVENTS_TOPIC,
    FRAME_TYPE,
    FRAMES_TOPIC,
    decode_event,
    encode_capture,
    encode_event,
    frame_key,
)
from shelfscan.adapters.frames_mcap import BagFrameSource
from shelfscan.adapters.msg_schema import schema_text, type_hash
from shelfscan.errors import BadInput, SensorError
from shelfscan.model.imaging import FrameBundle
from shelfscan.ports import Event

SRC = Path(__file__).resolve().parents[2] / "src"
STORED = Event("mission.started", "mission.started/m", 5, {"mission_id": "m", "plan": {"site": "here", "viewpoints": []}})


def put(writer: BagWriter | BagRecording, bundle: FrameBundle) -> None:
    for data in encode_capture(bundle):
        (writer.write if isinstance(writer, BagWriter) else writer.record)(FRAMES_TOPIC, FRAME_TYPE, data, bundle.stamp_ns)


def ids(path: Path) -> list[str]:
    return [b.capture_id for b in BagFrameSource(path).frames()]


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed bag with three captures and one event. Tests that change it copy it first."""
    folder = tmp_path_factory.mktemp("bag") / "bag"
    writer = BagWriter(folder)
    writer.write(EVENTS_TOPIC, EVENT_TYPE, encode_event(STORED), 4)
    for n in range(3):
        put(writer, capture(n))
    writer.close()
    return folder


def test_a_capture_reads_back_bit_for_bit(bag: Path) -> None:
    read = list(BagFrameSource(bag).frames())
    for n, got in enumerate(read):
        put_in = capture(n)
        assert (got.mission_id, got.viewpoint_id, got.capture_id, got.stamp_ns) == (
            put_in.mission_id,
            put_in.viewpoint_id,
            put_in.capture_id,
            put_in.stamp_ns,
        )
        np.testing.assert_allclose(got.T_map_base, put_in.T_map_base, atol=1e-12)
        for a, b in zip(got.frames, put_in.frames, strict=True):
            assert a.rgb_jpeg == b.rgb_jpeg
            assert np.array_equal(a.left, b.left) and np.array_equal(a.right, b.right)
            assert a.head.rgb.intrinsics == b.head.rgb.intrinsics
            np.testing.assert_allclose(a.head.rgb.T_base_optical, b.head.rgb.T_base_optical, atol=1e-12)
    assert len(read) == 3


def test_rosbags_reads_the_bag_with_its_own_definitions(bag: Path) -> None:
    with AnyReader([bag]) as reader:
        found = [(c.topic, c.msgtype, reader.deserialize(raw, c.msgtype)) for c, _, raw in reader.messages()]
        counts = {c.topic: c.msgcount for c in reader.connections}
    assert counts == {EVENTS_TOPIC: 1, FRAMES_TOPIC: 3 * len(HEADS)}
    frames = [m for topic, _, m in found if topic == FRAMES_TOPIC]
    assert [m.head for m in frames[: len(HEADS)]] == [h.name for h in HEADS]
    assert np.array_equal(frames[0].left.data, capture(0).frames[0].left.ravel())


def test_mcap_ros2_support_reads_the_bag(bag: Path) -> None:
    with (bag / "bag_0.mcap").open("rb") as f:
        reader = make_reader(f, decoder_factories=[DecoderFactory()])
        frame = next(m for _, _, _, m in reader.iter_decoded_messages(topics=[FRAMES_TOPIC]))
    assert bytes(frame.rgb.data) == capture(0).frames[0].rgb_jpeg
    assert frame.left_info.k[0] == HEADS[0].left.intrinsics.fx_px


def test_type_hashes_are_those_ros_computes() -> None:
    # As rosidl 0.3 (Kilted) computes it for std_msgs/msg/String.
    assert type_hash("std_msgs/msg/String") == "RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18"
    assert "MSG: sensor_msgs/CameraInfo" in schema_text(FRAME_TYPE)


def test_an_unknown_type_is_named(tmp_path: Path) -> None:
    writer = BagWriter(tmp_path / "bag")
    with pytest.raises(BadInput, match="nobody_msgs/msg/Nothing"):
        writer.write("/x", "nobody_msgs/msg/Nothing", b"\0\1\0\0", 1)
    writer.close()


def test_the_key_of_a_frame_is_read_without_the_rest() -> None:
    data = encode_capture(capture(7))[1]
    assert frame_key(data) == ("m", "V7-1", HEADS[1].name)
    assert frame_key(data[:200]) == ("m", "V7-1", HEADS[1].name)
    for broken in (b"", data[:20], b"\0\0" + data[2:], data[:12] + b"\xff\xff\xff\xff" + data[16:]):
        with pytest.raises(BadInput):
            frame_key(broken)


def test_events_survive() -> None:
    assert decode_event(encode_event(STORED)) == STORED


WRITE_AND_WAIT = """
import sys, time
sys.path[:0] = [{tests!r} + "/unit", {tests!r}, {src!r}]
from pathlib import Path
from test_bag import capture, put
from shelfscan.adapters.bag_record import BagRecording
r = BagRecording(Path({bag!r}))
for n in range({first}, {last}):
    put(r, capture(n))
print("written", flush=True)
time.sleep(60)
"""


def record_and_kill(bag: Path, first: int, last: int) -> None:
    """A real process records captures first..last-1 and is killed with SIGKILL."""
    code = WRITE_AND_WAIT.format(tests=str(SRC.parent / "tests"), src=str(SRC), bag=str(bag), first=first, last=last)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "written"
        process.send_signal(signal.SIGKILL)


def test_a_killed_recorder_loses_no_capture_and_goes_on_without_doubles(tmp_path: Path) -> None:
    bag = tmp_path / "bag"
    record_and_kill(bag, 0, 2)
    assert ids(bag) == ["V0-1", "V1-1"], "readable as the kill left it"
    # The restarted one is given the last capture again by the latched topic.
    recording = BagRecording(bag)
    put(recording, capture(1))
    put(recording, capture(2))
    assert recording.pictures == len(HEADS)
    recording.close()
    assert sorted(p.name for p in bag.iterdir()) == ["bag_0.mcap", "bag_1.mcap", "metadata.yaml"]
    source = BagFrameSource(bag)
    assert [b.capture_id for b in source.frames()] == ["V0-1", "V1-1", "V2-1"]
    assert (source.damages, source.problems) == ((), [])
    with AnyReader([bag]) as reader:
        assert sum(1 for _ in reader.messages()) == 3 * len(HEADS)


def test_a_bag_nobody_closed_is_mended_for_other_tools(tmp_path: Path) -> None:
    bag = tmp_path / "bag"
    record_and_kill(bag, 0, 1)
    assert [d.what for d in BagFrameSource(bag).damages] == ["the file was never closed"]
    stats = mend_bag(bag)
    assert [s.messages for s in stats.values()] == [len(HEADS)]
    assert BagFrameSource(bag).damages == ()


def copy(bag: Path, to: Path, cut: int | None = None, flip: int | None = None) -> Path:
    """One file of the bag, cut short or with 64 bytes overwritten."""
    data = bytearray((bag / "bag_0.mcap").read_bytes())
    if flip is not None:
        data[flip : flip + 64] = os.urandom(64)
    to.mkdir()
    (to / "x_0.mcap").write_bytes(bytes(data[:cut]))
    return to


def test_what_stands_before_a_cut_is_used(bag: Path, tmp_path: Path) -> None:
    size = (bag / "bag_0.mcap").stat().st_size
    damaged = copy(bag, tmp_path / "cut", cut=size * 6 // 10)
    source = BagFrameSource(damaged)
    found = [b.capture_id for b in source.frames()]
    assert found and found == ["V0-1", "V1-1", "V2-1"][: len(found)] and len(found) < 3
    (damage,) = source.damages
    assert damage.file == damaged / "x_0.mcap" and 0 < damage.offset < size * 6 // 10


def test_a_damaged_chunk_costs_its_capture_only(bag: Path, tmp_path: Path) -> None:
    size = (bag / "bag_0.mcap").stat().st_size
    source = BagFrameSource(copy(bag, tmp_path / "flip", flip=size // 2))
    found = [b.capture_id for b in source.frames()]
    assert found == ["V0-1", "V2-1"]
    assert "damaged chunk skipped" in source.damages[0].what
    assert any("V1-1" in p and "not all heads" in p for p in source.problems)


@pytest.mark.parametrize("cut", [0, 5, 8, 40])
def test_a_file_without_any_capture_is_refused_by_name_and_offset(bag: Path, tmp_path: Path, cut: int) -> None:
    with pytest.raises(BadInput, match=r"x_0\.mcap: offset \d+: "):
        BagFrameSource(copy(bag, tmp_path / "short", cut=cut))


def test_random_damage_never_crashes_the_reader(bag: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    size = (bag / "bag_0.mcap").stat().st_size
    # Half of the places are in the records' heads, where a wrong length hurts most.
    places = [*rng.integers(0, size, 12).tolist(), *rng.integers(0, 600, 12).tolist()]
    for n, at in enumerate(places):
        damaged = copy(bag, tmp_path / str(n), flip=at, cut=None if n % 3 else int(rng.integers(at, size)))
        try:
            assert set(ids(damaged)) <= {"V0-1", "V1-1", "V2-1"}
        except BadInput as e:
            assert "x_0.mcap" in str(e) or str(damaged) in str(e)


def test_what_is_no_bag_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mcap").write_text("hello")
    (tmp_path / "old.db3").write_bytes(b"SQLite format 3\0")
    said = {"nowhere": "no such bag", "empty": "no .mcap file", "text.mcap": "offset 0", "old.db3": "convert"}
    for path, text in said.items():
        with pytest.raises(BadInput, match=text):
            BagFrameSource(tmp_path / path)


def test_another_robots_bag_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    writer = BagWriter(tmp_path / "bag")
    writer.write("/chatter", EVENT_TYPE, encode_event(STORED), 1)
    writer.close()
    with pytest.raises(BadInput, match=r"no shelfscan_msgs/msg/HeadFrame in this bag; it holds /chatter"):
        BagFrameSource(tmp_path / "bag")


def test_a_bag_takes_no_captures(bag: Path) -> None:
    with pytest.raises(SensorError):
        BagFrameSource(bag).capture("m", "V9")


def test_the_disk_is_left_to_the_ledger(tmp_path: Path) -> None:
    free = 1000
    recording = BagRecording(tmp_path / "bag", min_free_bytes=800, free_bytes=lambda path: free)
    put(recording, capture(0))
    free = 700  # pictures stop, small messages go on
    time_ns = 2_000_000_000_000_000_000
    assert not recording.record(FRAMES_TOPIC, FRAME_TYPE, encode_capture(capture(1))[0], time_ns)
    assert recording.record(EVENTS_TOPIC, EVENT_TYPE, encode_event(STORED), time_ns)
    assert recording.dropped == 1 and "pictures are not recorded" in recording.problem
    free = 100
    assert not recording.record(EVENTS_TOPIC, EVENT_TYPE, encode_event(STORED), time_ns + 2_000_000_000)
    assert "nothing is recorded" in recording.problem
    free = 1000
    assert recording.record(EVENTS_TOPIC, EVENT_TYPE, encode_event(STORED), time_ns + 4_000_000_000)
    assert recording.problem == ""
    recording.close()
    assert ids(tmp_path / "bag") == ["V0-1"]


FULL = """
import resource, sys
sys.path[:0] = [{tests!r} + "/unit", {tests!r}, {src!r}]
from pathlib import Path
from test_bag import capture, put
from shelfscan.adapters.bag_record import BagRecording
r = BagRecording(Path({bag!r}))
put(r, capture(0))
# From here on the system refuses to make a file longer, as on a full disk.
resource.setrlimit(resource.RLIMIT_FSIZE, (r.file.stat().st_size + 1000,) * 2)
put(r, capture(1))
print(r.problem)
r.record("/x", "std_msgs/msg/String", b"", 1)
r.close()
"""


def test_a_full_disk_stops_the_recording_and_nothing_else(tmp_path: Path) -> None:
    code = FULL.format(tests=str(SRC.parent / "tests"), src=str(SRC), bag=str(tmp_path / "bag"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("recording stopped:") and "bag_0.mcap" in done.stdout
    assert ids(tmp_path / "bag") == ["V0-1"], "what was written before stays readable"


def test_clocks_are_thinned(tmp_path: Path) -> None:
    recording = BagRecording(tmp_path / "bag", every_ns={"/clock": 100})
    taken = [recording.record("/clock", EVENT_TYPE, encode_event(STORED), t) for t in (0, 50, 100, 150, 260, 10)]
    assert taken == [True, False, True, False, True, True], "a clock that jumps back is heard at once"
    recording.close()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "bag").write_text("x")
    with pytest.raises(BadInput, match="is a file"):
        BagRecording(tmp_path / "bag")
