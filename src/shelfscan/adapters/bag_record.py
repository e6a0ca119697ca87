"""What a recorder keeps and what it leaves out: each picture once, thinned clocks, and never the last of the disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from shelfscan.adapters.bag_read import BagMessage
from shelfscan.adapters.bag_write import BagWriter
from shelfscan.adapters.frames_cdr import FRAME_TYPE, frame_key
from shelfscan.errors import BadInput

#: The disk is asked at most this often, nanoseconds of the log's clock.
ASK_DISK_NS = 1_000_000_000


class BagRecording:
    """A bag being recorded. Not safe for several threads at once.

    Below ``min_free_bytes`` of free disk no pictures are recorded, below a quarter of it nothing: what is left belongs to
    the ledger. A bag that cannot be written (any more) never raises; ``problem`` says so.
    """

    def __init__(
        self,
        folder: Path,
        *,
        min_free_bytes: int = 512 * 2**20,
        every_ns: Mapping[str, int] | None = None,
        free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
    ) -> None:
        """Open the bag, going on with one that is there. ``every_ns``: topics of which one message in so long is enough.

        Raises `BadInput` when the folder is none, `OSError` when it cannot be written.
        """
        self._seen: set[tuple[str, str, str]] = set()
        self._last: dict[str, int] = {}
        self._every = dict(every_ns or {})
        self._min_free, self._free = min_free_bytes, free_bytes
        self._asked_ns: int | None = None
        self._left = min_free_bytes
        self._broken = ""
        self._closed = False
        #: Messages written, pictures among them, and pictures left out for want of disk, since the bag was opened.
        self.written = self.pictures = self.dropped = 0
        self._writer = BagWriter(folder, visit=self._known)

    @property
    def file(self) -> Path:
        """The file being written."""
        return self._writer.file

    @property
    def problem(self) -> str:
        """Why not everything is recorded, or an empty text."""
        if self._broken:
            return f"recording stopped: {self._broken}"
        if self._left < self._min_free:
            what = "nothing is" if self._left < self._min_free // 4 else "pictures are not"
            return f"disk nearly full ({self._left // 2**20} MiB free): {what} recorded"
        return ""

    def record(self, topic: str, type_name: str, data: bytes, log_ns: int) -> bool:
        """Take one message in; whether it was written. A picture that is in the bag already is not written again."""
        if self._broken or self._closed or self._too_soon(topic, log_ns):
            return False
        self._ask_disk(log_ns)
        key: tuple[str, str, str] | None = None
        if type_name == FRAME_TYPE:
            try:
                key = frame_key(data)
            except BadInput:
                # Not ours to judge: it is kept as it came, and whoever reads it will say what is wrong.
                key = None
            if key is not None and key in self._seen:
                return False
            if self._left < self._min_free:
                self.dropped += 1
                return False
        if self._left < self._min_free // 4:
            return False
        try:
            self._writer.write(topic, type_name, data, log_ns)
        except (OSError, BadInput) as e:
            self._broken = f"{self._writer.file}: {e.strerror if isinstance(e, OSError) else e}"
            return False
        self.written += 1
        if key is not None:
            self._seen.add(key)
            self.pictures += 1
        return True

    def flush(self) -> None:
        """Hand everything to the operating system."""
        if not self._broken and not self._closed:
            try:
                self._writer.flush()
            except OSError as e:
                self._broken = f"{self._writer.file}: {e.strerror}"

    def close(self) -> None:
        """Close the bag; does nothing the second time."""
        if self._closed:
            return
        self._closed = True
        try:
            self._writer.close()
        except OSError as e:
            # What is on the disk stays readable: the file lacks its end, as after a kill.
            self._broken = self._broken or f"{self._writer.file}: {e.strerror}"

    def _known(self, message: BagMessage) -> None:
        if message.type_name == FRAME_TYPE:
            try:
                self._seen.add(frame_key(message.data))
            except BadInput:
                return

    def _too_soon(self, topic: str, log_ns: int) -> bool:
        every = self._every.get(topic)
        if every is None:
            return False
        last = self._last.get(topic)
        if last is not None and 0 <= log_ns - last < every:
            return True
        self._last[topic] = log_ns
        return False

    def _ask_disk(self, log_ns: int) -> None:
        if self._asked_ns is not None and 0 <= log_ns - self._asked_ns < ASK_DISK_NS:
            return
        self._asked_ns = log_ns
        try:
            self._left = self._free(self._writer.folder)
        except OSError:
            # The write itself will tell.
            return
