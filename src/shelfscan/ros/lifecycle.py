"""The base of every node: parameters, lifecycle, diagnostics, and a main loop that ends cleanly or loudly."""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from types import FrameType

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.executors import Executor, MultiThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions

from shelfscan.bundle import load_bundle
from shelfscan.config import Config, load_config
from shelfscan.errors import BadInput
from shelfscan.model.bundle import Bundle
from shelfscan.ready import announce_ready

DIAGNOSTICS_S = 1.0
#: Exit status of a node whose input is wrong: starting it again would not help.
EXIT_BAD_INPUT = 2


class Level(IntEnum):
    """Severity of a diagnostic, as ``diagnostic_msgs/DiagnosticStatus`` counts."""

    OK = 0
    WARN = 1
    ERROR = 2


class ShelfscanNode(LifecycleNode):
    """A lifecycle node. Override `acquire`, `begin`, `halt` and `release`; they may raise.

    Parameters: ``store`` (folder of the store bundle), ``run_dir`` (folder of the run), ``config`` (YAML file, empty
    for defaults), ``autostart`` (configure and activate without a lifecycle manager).
    """

    def __init__(self, name: str, *, threads: int = 4, hears_much: bool = False) -> None:
        """``threads``: so many callbacks at once. ``hears_much``: a hundred messages a second or so, for callbacks that only
        take them; they are called one at a time where rclpy has an executor for that, whatever ``threads`` is.
        """
        super().__init__(name)
        self.threads, self.hears_much = threads, hears_much
        self.exit_code = 0
        self._failed = threading.Event()
        self._status: tuple[Level, str, dict[str, object]] = (Level.OK, "starting", {})
        self.declare_parameter("autostart", True)
        for text in ("store", "run_dir", "config"):
            self.declare_parameter(text, "")
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", QoSProfile(depth=10))
        self._diagnostics_timer = self.create_timer(
            DIAGNOSTICS_S, self._publish_status, callback_group=MutuallyExclusiveCallbackGroup()
        )

    # -- what a node overrides ------------------------------------------------------------------------------------

    def acquire(self) -> None:
        """Take what the node needs: files, publishers, servers. `BadInput` for input that is wrong."""

    def begin(self) -> None:
        """Start working."""

    def halt(self) -> None:
        """Stop working; returns once nothing runs any more."""

    def release(self) -> None:
        """Give everything back."""

    # -- what a node uses -----------------------------------------------------------------------------------------

    def text(self, name: str) -> str:
        """A string parameter."""
        return str(self.get_parameter(name).value or "")

    def need(self, name: str) -> str:
        """A string parameter that must be set. Raises `BadInput` naming it."""
        value = self.text(name)
        if not value:
            raise BadInput(f"node {self.get_name()}: parameter {name!r} is not set")
        return value

    def load_store(self) -> Bundle:
        """The store bundle of the parameter ``store``. Raises `BadInput`."""
        return load_bundle(Path(self.need("store")))

    def load_settings(self) -> Config:
        """The configuration of the parameter ``config``. Raises `BadInput`."""
        path = self.text("config")
        return load_config(Path(path) if path else None)

    @property
    def run_dir(self) -> Path:
        """The run folder. Raises `BadInput` when the parameter is not set."""
        return Path(self.need("run_dir"))

    def report(self, level: Level, message: str, **values: object) -> None:
        """Say how the node is; goes to ``/diagnostics`` now if it changed, and every second. Safe from any thread."""
        before, self._status = self._status, (level, message, dict(values))
        if before[:2] != (level, message):
            log = self.get_logger()
            # A line each: rclpy remembers the severity of the place a message is logged from and refuses another.
            if level is Level.OK:
                log.info(message)
            elif level is Level.WARN:
                log.warning(message)
            else:
                log.error(message)
            self._publish_status()

    def fail(self, error: BaseException) -> None:
        """End the process because of an error nobody can handle here. Safe from any thread."""
        if isinstance(error, BadInput):
            self.exit_code = EXIT_BAD_INPUT
            for problem in error.problems:
                self.get_logger().fatal(problem)
        else:
            self.exit_code = 1
            lines = traceback.format_exception(type(error), error, error.__traceback__)
            self.get_logger().fatal(f"{type(error).__name__}: {error}\n{''.join(lines)}")
        self._failed.set()

    def start_thread(self, target: Callable[[], None], name: str) -> threading.Thread:
        """A daemon thread whose exceptions end the process."""

        def run() -> None:
            try:
                target()
            except BaseException as e:  # noqa: BLE001 - whatever it is, the process must not go on without the thread
                self.fail(e)

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread

    # -- lifecycle ------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition(self.acquire, lambda: LifecycleNode.on_configure(self, state))

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        done = self._transition(self.begin, lambda: LifecycleNode.on_activate(self, state))
        if done == TransitionCallbackReturn.SUCCESS:
            announce_ready()
        return done

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition(self.halt, lambda: LifecycleNode.on_deactivate(self, state))

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition(self.release, lambda: LifecycleNode.on_cleanup(self, state))

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        if state.label == "active":
            self._transition(self.halt)
        if state.label in ("active", "inactive"):
            self._transition(self.release)
        return LifecycleNode.on_shutdown(self, state)

    def _transition(
        self, work: Callable[[], None], inherited: Callable[[], TransitionCallbackReturn] | None = None
    ) -> TransitionCallbackReturn:
        # rclpy swallows what a transition raises, so it is said here; without it the node would stand still silently.
        try:
            work()
        except Exception as e:  # noqa: BLE001 - rclpy would swallow it
            if self.autostart:
                self.fail(e)
            else:
                self.report(Level.ERROR, str(e))
            return TransitionCallbackReturn.FAILURE
        return inherited() if inherited is not None else TransitionCallbackReturn.SUCCESS

    @property
    def autostart(self) -> bool:
        """Whether the node configures and activates itself."""
        return bool(self.get_parameter("autostart").value)

    @property
    def failed(self) -> bool:
        """Whether `fail` was called."""
        return self._failed.is_set()

    def _publish_status(self) -> None:
        level, message, values = self._status
        status = DiagnosticStatus()
        status.level = bytes([int(level)])
        status.name = f"shelfscan/{self.get_name()}"
        status.hardware_id = "shelfscan"
        status.message = message
        status.values = [KeyValue(key=k, value=str(v)) for k, v in values.items()]
        array = DiagnosticArray()
        array.header.stamp = self.get_clock().now().to_msg()
        array.status = [status]
        self._diagnostics.publish(array)


def _executor(node: ShelfscanNode) -> Executor:
    if node.hears_much:
        # Waiting for many topics costs rclpy's usual executors milliseconds of Python for each message. Jazzy before rclpy
        # 7.1.4 has no other.
        with suppress(ImportError):
            from rclpy.experimental.events_executor import EventsExecutor

            return EventsExecutor()
    return MultiThreadedExecutor(num_threads=node.threads)


def spin_node(factory: Callable[[], ShelfscanNode], args: list[str] | None = None) -> int:
    """Run a node until SIGINT or SIGTERM (exit status 0), or until something raises (1, or 2 for `BadInput`).

    An exception in any callback ends the process: a supervisor starts a fresh one, which knows more than a
    half-broken one.
    """
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    rclpy.init(args=args if args is not None else sys.argv, signal_handler_options=SignalHandlerOptions.NO)
    node: ShelfscanNode | None = None
    try:
        node = factory()
        executor = _executor(node)
        executor.add_node(node)
        if node.autostart and node.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            node.trigger_activate()
        # Python runs signal handlers between two waits, so the wait is short.
        while not stop.is_set() and not node.failed:
            try:
                executor.spin_once(timeout_sec=0.2)
            except Exception as e:  # noqa: BLE001 - any callback may raise anything
                node.fail(e)
        try:
            node.trigger_shutdown()
        finally:
            if isinstance(executor, MultiThreadedExecutor):
                executor.shutdown(timeout_sec=2.0, wait_for_threads=False)
            else:
                executor.shutdown(timeout_sec=2.0)
            node.destroy_node()
    except BadInput as e:
        print("\n".join(e.problems), file=sys.stderr)
        return EXIT_BAD_INPUT
    finally:
        rclpy.try_shutdown()
    return node.exit_code
