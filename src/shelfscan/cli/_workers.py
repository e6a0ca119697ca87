"""Captures of a direct run processed by other processes, while the simulated robot drives on as a real one does."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from typing import TYPE_CHECKING

from shelfscan._leash import PR_SET_PDEATHSIG
from shelfscan.config import Config
from shelfscan.errors import ShelfscanError
from shelfscan.model.bundle import Bundle
from shelfscan.model.imaging import FrameBundle

if TYPE_CHECKING:
    from shelfscan.pipeline import ScanPipeline, ScanResult

Done = Callable[["ScanResult", float], None]

_pipeline: ScanPipeline | None = None


class Workers:
    """``n`` processes that each hold a pipeline; with 0 there is nothing to submit to.

    Results come back in the caller's thread, in whatever order they are done.
    """

    def __init__(self, bundle: Bundle, config: Config, n: int, done: Done) -> None:
        """``done`` gets each result and the seconds that it took, from within `collect`."""
        # Not forked: the simulator's rendering context and the models' threads do not survive that.
        self._pool: ProcessPoolExecutor | None = None
        if n:
            context, args = multiprocessing.get_context("spawn"), (os.getpid(), bundle, config)
            self._pool = ProcessPoolExecutor(n, context, initializer=_begin, initargs=args)
        self._open: set[Future[tuple[ScanResult, float]]] = set()
        self._done = done

    def close(self) -> None:
        """End the processes; what is open is given up."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, frames: FrameBundle) -> None:
        """Hand a capture to whoever is free next."""
        assert self._pool is not None
        try:
            self._open.add(self._pool.submit(_process, frames))
        except BrokenExecutor as e:
            raise ShelfscanError(f"a worker ended: {e}; go on with --resume") from e

    def collect(self, *, at_least_one: bool = False) -> bool:
        """Pass on what is done; with ``at_least_one`` wait for that. False when nothing was open.

        Raises `ShelfscanError` when a worker was killed: what it had is not in the ledger, and a resumed run looks again.
        """
        if not self._open:
            return False
        ready, self._open = wait(self._open, None if at_least_one else 0, FIRST_COMPLETED)
        for future in ready:
            try:
                result, seconds = future.result()
            except BrokenExecutor as e:
                raise ShelfscanError(f"a worker ended: {e}; go on with --resume") from e
            self._done(result, seconds)
        return True


def _begin(parent: int, bundle: Bundle, config: Config) -> None:
    """In the worker: it ends with its parent however that ends, leaves Ctrl-C to it, and loads its models once."""
    from shelfscan.bootstrap import make_pipeline

    global _pipeline
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    # The processes are what works at once here.
    _pipeline = make_pipeline(bundle, config, at_once=1)


def _process(frames: FrameBundle) -> tuple[ScanResult, float]:
    assert _pipeline is not None
    t0 = time.monotonic()
    result = _pipeline.process(frames)
    return result, time.monotonic() - t0
