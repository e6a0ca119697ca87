"""``shelfscan`` in this process: what a command prints and exits with, without the seconds that a start of Python takes.

Everything that is written counts, also what libraries in C write past Python. That a process of its own does the same is
what ``tests/unit/test_cli_usage.py`` and all tests that start one are for.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import CompletedProcess
from typing import IO

import pytest

from shelfscan.cli.main import main


def shelfscan(*arguments: object, **environment: str) -> CompletedProcess[str]:
    """Runs the command line with these arguments and, for as long as it runs, these environment variables."""
    command = ["shelfscan", *map(str, arguments)]
    code: object = 0
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        patch.setattr(sys, "argv", command)
        for name, value in environment.items():
            patch.setenv(name, value)
        with _instead_of(1, out), _instead_of(2, err):
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            try:
                main()
            except SystemExit as e:
                code = e.code
            finally:
                patch.undo()
                out.flush()
                err.flush()
        return CompletedProcess(command, code if isinstance(code, int) else 0 if code is None else 1, _text(out), _text(err))


@contextmanager
def _instead_of(number: int, file: IO[str]) -> Iterator[None]:
    """A file takes what is written to a descriptor."""
    kept = os.dup(number)
    os.dup2(file.fileno(), number)
    try:
        yield
    finally:
        os.dup2(kept, number)
        os.close(kept)


def _text(file: IO[str]) -> str:
    file.seek(0)
    return file.read()
