"""The one thread that owns the simulator: physics at its pace, and everything else one at a time in between.

OpenGL's context stays with the thread that made it, and the simulator is not thread-safe; so ROS callbacks hand their
work over and wait. Nothing here imports ROS.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, TypeVar

from shelfscan.sim.simulator import Simulator

T = TypeVar("T")

PERIOD_S = 0.04
#: A thread that was held up goes on from there: catching up would hold it up again.
LONGEST_STEP_S = 0.1


class SimulatorStopped(Exception):
    """The simulator's thread is ending, or does not answer."""


class SimWorker:
    """Runs a simulator ``real_time_factor`` times as fast as the wall clock, or as fast as it can."""

    def __init__(self, simulator: Simulator, real_time_factor: float, on_tick: Callable[[Simulator], None]) -> None:
        self._simulator, self._factor, self._on_tick = simulator, real_time_factor, on_tick
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._stop, self._ended = threading.Event(), threading.Event()

    def run(self) -> None:
        """Step, publish and work until `stop`; closes the simulator. Call in a thread of its own."""
        try:
            self._simulator.warm_up()
            last = time.monotonic()
            while not self._stop.is_set():
                now = time.monotonic()
                self._simulator.step(min(now - last, LONGEST_STEP_S) * self._factor)
                last = now
                self._on_tick(self._simulator)
                if self._serve(now + PERIOD_S):
                    last = time.monotonic()
        finally:
            self._stop.set()
            # In this order nobody can hand over work that is never answered.
            self._ended.set()
            self._refuse()
            self._simulator.close()

    def call(self, work: Callable[[Simulator], T], timeout_s: float = 60.0) -> T:
        """Run ``work`` in the simulator's thread and return what it returns, or raise what it raises; blocks.

        Raises `SimulatorStopped` when the thread is ending, and when it did not come to it in time.
        """
        done: Future[T] = Future()

        def job() -> None:
            if self._stop.is_set():
                done.set_exception(SimulatorStopped("the simulator is ending"))
                return
            if not done.set_running_or_notify_cancel():
                return
            try:
                done.set_result(work(self._simulator))
            except BaseException as e:  # noqa: BLE001 - it is the caller's to handle
                done.set_exception(e)

        self._work.put(job)
        if self._ended.is_set():
            self._refuse()
        try:
            return done.result(timeout_s)
        except FutureTimeout:
            done.cancel()
            raise SimulatorStopped(f"the simulator was busy for {timeout_s:.0f} s") from None

    def stop(self) -> None:
        """End `run`; safe from any thread."""
        self._stop.set()
        self._work.put(None)

    def _refuse(self) -> None:
        """Answer everybody who still waits; nothing is worked on any more."""
        while True:
            try:
                job = self._work.get_nowait()
            except queue.Empty:
                return
            if job is not None:
                job()

    def _serve(self, until: float) -> bool:
        """Work off what was handed over, waiting for more until a time; whether anything took long."""
        begun, worked = time.monotonic(), False
        while not self._stop.is_set():
            try:
                job: Any = self._work.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if job is not None:
                job()
            if time.monotonic() >= until:
                worked = True
                break
        return worked and time.monotonic() - begun > LONGEST_STEP_S
