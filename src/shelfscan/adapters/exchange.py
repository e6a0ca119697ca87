"""Where files are exchanged with a system that reads and writes a folder: here, the folder of this computer.

`exchange_sftp` is the same on an SFTP server. Folders are ``in``, ``out``, ``done`` and ``answers`` below one root, and names
have no path in them, so that nothing is ever read or written elsewhere.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from shelfscan.errors import WmsError, WmsTransient
from shelfscan.runfolder import write_atomic


class Exchange(Protocol):
    """Files below one root. ``address`` names it: it is what a lock is taken on, so two ways to write one root must agree."""

    address: str

    def where(self, folder: str, name: str) -> str:
        """The file as messages name it."""
        ...

    def read(self, folder: str, name: str) -> bytes | None:
        """The whole file, or None when there is none. Raises `WmsError`; `WmsTransient` where asking again may help."""
        ...

    def names(self, folder: str, prefix: str) -> list[str]:
        """Names that begin so and end in ``.csv``, in order; none where there is no such folder. Raises `WmsError`."""
        ...

    def write(self, folder: str, name: str, data: bytes) -> None:
        """Put a file there in one step: nobody ever sees a part of it.

        Raises `WmsTransient` when it is surely not there, `WmsUnknown` when it may be.
        """
        ...


class LocalExchange:
    """A folder of this computer, or one that is mounted."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.address = str(root.resolve())

    def where(self, folder: str, name: str) -> str:
        """See `Exchange.where`."""
        return str(self._root / folder / name)

    def read(self, folder: str, name: str) -> bytes | None:
        """See `Exchange.read`."""
        path = self._root / folder / name
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as e:
            raise WmsError(f"{path}: cannot be read: {e.strerror}") from e

    def names(self, folder: str, prefix: str) -> list[str]:
        """See `Exchange.names`."""
        path = self._root / folder
        try:
            found = os.listdir(path)
        except FileNotFoundError:
            return []
        except OSError as e:
            raise WmsError(f"{path}: cannot be read: {e.strerror}") from e
        return sorted(n for n in found if n.startswith(prefix) and n.endswith(".csv"))

    def write(self, folder: str, name: str, data: bytes) -> None:
        """See `Exchange.write`."""
        path = self._root / folder / name
        try:
            write_atomic(path, data)
        except OSError as e:
            raise WmsTransient(f"{path}: cannot be written: {e.strerror}") from e
