"""Writes rosbag2 bags in MCAP from serialised messages, so that a kill at any instant loses at most an open chunk.

A bag is a folder: ``<name>_<n>.mcap`` and, once closed, ``metadata.yaml`` (version 9). A writer that finds files of an
earlier one in the folder mends what that left unclosed and goes on with the next file, as rosbag2's splits do.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import yaml
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer

from shelfscan.adapters.bag_read import BROKEN, BagMessage, BagReader
from shelfscan.adapters.msg_schema import schema_text, type_hash
from shelfscan.errors import BadInput
from shelfscan.runfolder import write_atomic

#: Small messages wait for this much (or `FLUSH_S`) before they are compressed and written; a picture never waits.
CHUNK_BYTES = 512 * 1024
FLUSH_S = 1.0
#: A message at least this large is on its way to the disk once `write` returns.
BIG_BYTES = 64 * 1024
PARTIAL = ".partial"
#: A file of this size holds MCAP's header and nothing else.
EMPTY_BYTES = 128


@dataclass
class FileStats:
    """What ``metadata.yaml`` says about one file."""

    first_ns: int = 2**63 - 1
    last_ns: int = 0
    counts: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, topic: str, type_name: str, log_ns: int) -> None:
        self.first_ns, self.last_ns = min(self.first_ns, log_ns), max(self.last_ns, log_ns)
        self.counts[topic, type_name] = self.counts.get((topic, type_name), 0) + 1

    @property
    def messages(self) -> int:
        return sum(self.counts.values())


class _File:
    """One MCAP file being written."""

    def __init__(self, path: Path, schemas: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.stats = FileStats()
        self._schemas = schemas
        self._stream: BinaryIO = path.open("wb")
        # mcap's writer is only half annotated.
        self._writer: Any = Writer(self._stream, chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD)
        self._writer.start(profile="ros2", library="shelfscan")
        self._stream.flush()
        self._channels: dict[tuple[str, str], int] = {}
        self._schema_ids: dict[str, int] = {}
        self._flushed = time.monotonic()

    def write(self, topic: str, type_name: str, data: bytes, log_ns: int, qos: str = "") -> None:
        key = (topic, type_name)
        if key not in self._channels:
            if type_name not in self._schema_ids:
                known = (self._schemas or {}).get(type_name)
                text = known if known is not None else schema_text(type_name)
                self._schema_ids[type_name] = self._writer.register_schema(type_name, "ros2msg", text.encode())
            about = {"offered_qos_profiles": qos} if qos else {}
            self._channels[key] = self._writer.register_channel(topic, "cdr", self._schema_ids[type_name], about)
        self._writer.add_message(self._channels[key], log_ns, data, log_ns, self.stats.counts.get(key, 0))
        self.stats.add(topic, type_name, log_ns)
        if len(data) >= BIG_BYTES or time.monotonic() - self._flushed > FLUSH_S:
            self.flush()

    def flush(self) -> None:
        self._writer.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        try:
            self._writer.finish()
            self._stream.flush()
            os.fsync(self._stream.fileno())
        finally:
            self._stream.close()


class BagWriter:
    """An open bag. Not safe for several threads or processes at once."""

    def __init__(
        self, folder: Path, qos: Mapping[str, str] | None = None, visit: Callable[[BagMessage], None] | None = None
    ) -> None:
        """Open a new file in the bag. Raises `BadInput` when the folder is none, `OSError` when it cannot be written.

        ``qos``: the offered QoS profiles of topics, as rosbag2's YAML. ``visit`` is given what an earlier writer wrote
        last (see `mend_bag`).
        """
        self.folder = folder
        self._qos = dict(qos or {})
        if folder.exists() and not folder.is_dir():
            raise BadInput(f"{folder}: is a file; a bag is a folder")
        folder.mkdir(parents=True, exist_ok=True)
        self._stats = mend_bag(folder, visit)
        used = [int(p.stem.rsplit("_", 1)[1]) for p in self._stats if p.stem.rsplit("_", 1)[-1].isdigit()]
        self._file = _File(folder / f"{folder.name}_{max(used, default=-1) + 1}.mcap")
        if self._stats:
            # What was mended opens with every tool, even should this recorder die as well.
            write_metadata(folder, self._stats, self._qos)

    @property
    def file(self) -> Path:
        """The file being written."""
        return self._file.path

    @property
    def messages(self) -> int:
        """Messages written since this writer opened the bag."""
        return self._file.stats.messages

    def write(self, topic: str, type_name: str, data: bytes, log_ns: int) -> None:
        """Append a message: CDR with its 4-byte header. Raises `BadInput` for a type nobody defines, `OSError` (disk)."""
        self._file.write(topic, type_name, data, log_ns, self._qos.get(topic, ""))

    def flush(self) -> None:
        """Hand everything to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Close the file and complete ``metadata.yaml``."""
        self._file.close()
        self._stats[self._file.path] = self._file.stats
        write_metadata(self.folder, self._stats, self._qos)


def mend_bag(folder: Path, visit: Callable[[BagMessage], None] | None = None) -> dict[Path, FileStats]:
    """Close what a killed recorder left open, so that every tool reads it; gives each file's statistics.

    A file without an end is copied up to its damage and put in place of the old one in one step. A file that holds no
    readable message is set aside as ``*.damaged``, or removed when it never held any. Whole files are not read again,
    but for the last one when ``visit`` is given; ``visit`` gets every message that is read.
    """
    for scratch in folder.glob(f"*{PARTIAL}"):
        scratch.unlink()
    stats: dict[Path, FileStats] = {}
    files = BagReader(folder).files if any(folder.glob("*.mcap")) else []
    for file in files:
        summary = _summary(file)
        if summary is not None and (visit is None or file != files[-1]):
            stats[file] = summary
        else:
            mended = _mend(file, whole=summary is not None, visit=visit)
            if mended is not None:
                stats[file] = mended
    return stats


def _mend(file: Path, *, whole: bool, visit: Callable[[BagMessage], None] | None) -> FileStats | None:
    """Read a file and, unless it is whole, replace it by what could be read; None when that is nothing."""
    reader, seen = BagReader(file), FileStats()
    scratch = file.with_name(file.name + PARTIAL)
    copy: _File | None = None
    try:
        for m in reader.messages():
            seen.add(m.topic, m.type_name, m.log_ns)
            if visit is not None:
                visit(m)
            if not whole:
                copy = copy or _File(scratch, reader.schemas)
                copy.write(m.topic, m.type_name, m.data, m.log_ns)
        if copy is not None:
            copy.close()
            scratch.replace(file)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    if whole or copy is not None:
        return seen
    if file.stat().st_size <= EMPTY_BYTES:
        file.unlink()
    else:
        file.replace(file.with_name(file.name + ".damaged"))
    return None


def _summary(file: Path) -> FileStats | None:
    """Statistics from a closed file's summary; None when the file was never closed or its end is damaged."""
    if not _ends_well(file):
        return None
    try:
        with file.open("rb") as stream:
            summary = make_reader(stream).get_summary()
    except BROKEN:
        return None
    if summary is None or summary.statistics is None:
        return None
    out, found = FileStats(), summary.statistics
    for channel_id, n in found.channel_message_counts.items():
        channel = summary.channels.get(channel_id)
        schema = summary.schemas.get(channel.schema_id) if channel is not None else None
        if channel is None or schema is None:
            return None
        out.counts[channel.topic, schema.name] = n
    if out.messages:
        out.first_ns, out.last_ns = found.message_start_time, found.message_end_time
    return out


def _ends_well(file: Path) -> bool:
    """Whether a file ends with MCAP's magic bytes, as only a closed one does."""
    with file.open("rb") as f:
        size = f.seek(0, os.SEEK_END)
        f.seek(max(0, size - 8))
        return size > 16 and f.read() == b"\x89MCAP0\r\n"


def write_metadata(folder: Path, stats: Mapping[Path, FileStats], qos: Mapping[str, str] | None = None) -> None:
    """Write rosbag2's ``metadata.yaml`` (version 9) for the given files."""
    filled = {p: s for p, s in stats.items() if s.messages}
    first = min((s.first_ns for s in filled.values()), default=0)
    last = max((s.last_ns for s in filled.values()), default=0)
    counts: dict[tuple[str, str], int] = {}
    for s in stats.values():
        for key, n in s.counts.items():
            counts[key] = counts.get(key, 0) + n

    def span(s: FileStats) -> tuple[int, int]:
        return (s.first_ns, s.last_ns - s.first_ns) if s.messages else (0, 0)

    info: dict[str, Any] = {
        "version": 9,
        "storage_identifier": "mcap",
        "duration": {"nanoseconds": last - first},
        "starting_time": {"nanoseconds_since_epoch": first},
        "message_count": sum(counts.values()),
        "topics_with_message_count": [
            {
                "topic_metadata": {
                    "name": topic,
                    "type": type_name,
                    "serialization_format": "cdr",
                    "offered_qos_profiles": yaml.safe_load((qos or {}).get(topic, "")) or [],
                    "type_description_hash": _hash(type_name),
                },
                "message_count": n,
            }
            for (topic, type_name), n in sorted(counts.items())
        ],
        "compression_format": "",
        "compression_mode": "",
        "relative_file_paths": [p.name for p in stats],
        "files": [
            {
                "path": p.name,
                "starting_time": {"nanoseconds_since_epoch": span(s)[0]},
                "duration": {"nanoseconds": span(s)[1]},
                "message_count": s.messages,
            }
            for p, s in stats.items()
        ],
        "custom_data": None,
        "ros_distro": os.environ.get("ROS_DISTRO", "kilted"),
    }
    text = yaml.safe_dump({"rosbag2_bagfile_information": info}, sort_keys=False)
    write_atomic(folder / "metadata.yaml", text.encode())


def _hash(type_name: str) -> str:
    try:
        return type_hash(type_name)
    except BadInput:
        # A bag from elsewhere may hold types that nobody here defines; the hash is a hint only.
        return ""
