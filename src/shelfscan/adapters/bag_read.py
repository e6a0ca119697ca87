"""Reads rosbag2 bags in MCAP, whole or damaged: what stands before (and, chunk by chunk, after) a damage is used.

A bag is a folder with ``.mcap`` files (``metadata.yaml`` is not needed: a killed recorder leaves none) or one such file.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
import zstandard
from mcap.exceptions import EndOfFile, McapError
from mcap.records import Channel, Chunk, Footer, McapRecord, Message, Schema
from mcap.stream_reader import StreamReader, breakup_chunk

from shelfscan.errors import BadInput

#: What a truncated or overwritten file makes the MCAP reader raise.
BROKEN = (McapError, ValueError, struct.error, zstandard.ZstdError, KeyError, OverflowError, MemoryError, EOFError)
#: A chunk that claims to be larger than this once unpacked is damaged; the recorder's are a few MiB.
MAX_CHUNK_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Damage:
    """A place in a file that could not be read; ``offset`` in bytes from its beginning."""

    file: Path
    offset: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}: offset {self.offset}: {self.what}"


@dataclass(frozen=True, slots=True)
class BagMessage:
    """One recorded message. ``data`` is CDR with its 4-byte header; ``log_ns`` when it was received, nanoseconds."""

    topic: str
    type_name: str
    log_ns: int
    data: bytes


def _number(path: Path) -> tuple[int, str]:
    """Splits sort by their number: ``bag_10`` comes after ``bag_9``."""
    match = re.search(r"(\d+)$", path.stem)
    return (int(match[1]) if match else -1, path.name)


def bag_files(path: Path) -> list[Path]:
    """The ``.mcap`` files of a bag in recording order. Raises `BadInput` naming what is there instead."""
    if path.is_file():
        if path.suffix == ".db3":
            raise BadInput(f"{path}: a bag in SQLite storage; convert it to MCAP with `ros2 bag convert`")
        return [path]
    if not path.is_dir():
        raise BadInput(f"{path}: no such bag")
    metadata = path / "metadata.yaml"
    files = sorted(path.glob("*.mcap"), key=_number)
    if metadata.is_file():
        try:
            info = yaml.safe_load(metadata.read_text(encoding="utf-8"))["rosbag2_bagfile_information"]
            storage, packed = str(info["storage_identifier"]), str(info.get("compression_format") or "")
        except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError):
            # The files speak for themselves.
            storage, packed = "mcap", ""
        if storage != "mcap" and not files:
            raise BadInput(f"{metadata}: storage_identifier is {storage!r}; convert the bag to MCAP with `ros2 bag convert`")
        if packed:
            raise BadInput(f"{metadata}: compression_format is {packed!r}; convert the bag with `ros2 bag convert` first")
    if not files:
        raise BadInput(f"{path}: not a bag: no .mcap file in this folder")
    return files


class BagReader:
    """Reads a bag message by message, in memory of one chunk.

    After (and while) reading, ``damages`` says what was skipped; ``schemas`` the definition text of each type met,
    ``finished`` which files end as a closed MCAP file does.
    """

    def __init__(self, path: Path) -> None:
        """Raises `BadInput` when the path is no bag."""
        self.path = path
        self.files = bag_files(path)
        self.damages: list[Damage] = []
        self.schemas: dict[str, str] = {}
        self.finished: set[Path] = set()

    def messages(self, topics: Collection[str] | None = None) -> Iterator[BagMessage]:
        """Every readable message in recording order; ``topics`` limits which."""
        self.damages = []
        for file in self.files:
            yield from self._file(file, topics)

    def _file(self, file: Path, topics: Collection[str] | None) -> Iterator[BagMessage]:
        schemas: dict[int, Schema] = {}
        channels: dict[int, Channel] = {}
        for record in self._records(file):
            if isinstance(record, Schema):
                schemas[record.id] = record
                if record.encoding == "ros2msg":
                    self.schemas.setdefault(record.name, record.data.decode("utf-8", errors="replace"))
            elif isinstance(record, Channel):
                channels[record.id] = record
            elif isinstance(record, Message):
                channel = channels.get(record.channel_id)
                # A chunk that was skipped may have held the channel; a schema-less channel is nothing of ROS.
                schema = schemas.get(channel.schema_id) if channel is not None else None
                if channel is None or schema is None or channel.message_encoding != "cdr":
                    continue
                if topics is None or channel.topic in topics:
                    yield BagMessage(channel.topic, schema.name, record.log_time, record.data)

    def _records(self, file: Path) -> Iterator[McapRecord]:
        """Records of a file with its chunks opened; damages are noted, and skipped where the framing goes on."""
        try:
            size = file.stat().st_size
            stream = file.open("rb")
        except OSError as e:
            raise BadInput(f"{file}: cannot be read: {e.strerror}") from e
        with stream:
            records = iter(StreamReader(stream, emit_chunks=True, record_size_limit=max(size, 64)).records)
            while True:
                offset = stream.tell()
                try:
                    record = next(records)
                except StopIteration:
                    break
                except BROKEN as e:
                    if offset == 0:
                        found = "it is empty" if size == 0 else "it does not begin with MCAP's magic bytes"
                        self.damages.append(Damage(file, 0, f"not an MCAP file: {found}"))
                    elif isinstance(e, EndOfFile) and offset == size:
                        # A recorder that was killed between two records.
                        self.damages.append(Damage(file, offset, "the file was never closed"))
                    else:
                        self.damages.append(Damage(file, offset, f"truncated or damaged ({_text(e)})"))
                    return
                except OSError as e:
                    self.damages.append(Damage(file, offset, f"cannot be read: {e.strerror}"))
                    return
                if isinstance(record, Footer):
                    self.finished.add(file)
                if not isinstance(record, Chunk):
                    yield record
                    continue
                try:
                    if record.uncompressed_size > MAX_CHUNK_BYTES:
                        raise ValueError(f"a chunk of {record.uncompressed_size} bytes")
                    inside = breakup_chunk(record, validate_crc=True)
                except BROKEN as e:
                    self.damages.append(Damage(file, offset, f"damaged chunk skipped ({_text(e)})"))
                    continue
                yield from inside


def _text(e: BaseException) -> str:
    return " ".join(str(e).split()) or type(e).__name__
