"""The simulated robot as real processes on loopback, and a node of the test's own beside them."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

pytest.importorskip("rclpy")

import rclpy
from rclpy.context import Context
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from shelfscan.paths import ROOT
from shelfscan.ros.env import free_domain, prepare, release_domain
from shelfscan.shm import remove_orphans, segments_of

DEMO = ROOT / "maps" / "demo"


class Robot:
    """``sim`` and whatever else is asked for; a context manager that leaves no process and no shared memory behind."""

    def __init__(self, folder: Path, *nodes: str, faults: str = "") -> None:
        self.folder, self._nodes, self._faults = folder, nodes, faults
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Robot:
        self._domain = free_domain()
        self.environment = prepare(self._domain)
        self.environment["PYTHONPATH"] = str(ROOT / "src")
        self.context = Context()
        rclpy.init(context=self.context, domain_id=self._domain, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node("test", context=self.context)
        self._executor = MultiThreadedExecutor(4, context=self.context)
        self._executor.add_node(self.node)
        self._spinner = threading.Thread(target=self._executor.spin, daemon=True)
        self._spinner.start()
        for name in self._nodes:
            self.start(name)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in self.processes.values():
            process.terminate()
        codes = {}
        for name, process in self.processes.items():
            try:
                codes[name] = process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill(name)
                codes[name] = "hung"
        self._executor.shutdown(timeout_sec=2.0)
        self._spinner.join(5.0)
        self.context.try_shutdown()
        release_domain(self._domain)
        if error is None:
            assert set(codes.values()) <= {0, -9}, f"nodes did not end cleanly: {codes}"

    def start(self, name: str, *extra: str) -> None:
        """Start a node (again)."""
        words = ["-r", "__ns:=/shelfscan", "-p", f"store:={DEMO}", "-p", f"run_dir:={self.folder}"]
        if name == "sim" and self._faults:
            (self.folder / "faults.yaml").write_text(self._faults)
            words += ["-p", f"faults:={self.folder / 'faults.yaml'}"]
        command = [sys.executable, "-m", f"shelfscan.ros.{name}", "--ros-args", *words, *extra]
        self.processes[name] = subprocess.Popen(command, env=self.environment)

    def kill(self, name: str) -> None:
        """What an out-of-memory killer does."""
        process = self.processes[name]
        segments = segments_of(process.pid)
        process.kill()
        process.wait(10)
        remove_orphans(segments)

    def call(self, kind: Any, name: str, request: Any, timeout_s: float = 30.0) -> Any:
        """Call a service and return its answer."""
        client = self.node.create_client(kind, name)
        assert client.wait_for_service(timeout_sec=timeout_s), f"no service {name}"
        return result_of(client.call_async(request), timeout_s)


def result_of(future: Any, timeout_s: float = 30.0) -> Any:
    """What a future gives, from a thread that does not spin."""
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    assert done.wait(timeout_s), f"no answer for {timeout_s:.0f} s"
    return future.result()


def until(condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    """Wait for something to become true, and return it."""
    end = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < end, f"nothing for {timeout_s:.0f} s"
        time.sleep(0.05)
    return value
