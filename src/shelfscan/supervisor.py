"""Starts processes, keeps them running, and leaves nothing behind. Knows nothing of ROS.

A child that ends by itself, crashes, is killed or is not ready in time is started again, a little later each time.
Too many restarts in a short while means that restarting does not help: the child is given up, and with it the whole
set when the child is critical. No child outlives the supervisor, even when that is killed with SIGKILL.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import TracebackType

from shelfscan.ready import READY_FILE, is_ready
from shelfscan.shm import remove_orphans, segments_of

#: How often children are looked at, and how often their shared memory is noted.
TICK_S = 0.1
SHM_EVERY_S = 1.0
TAIL_LINES, TAIL_CHARACTERS = 6, 600


@dataclass(frozen=True, slots=True)
class Child:
    """A process to keep running. ``ready_s``: it is restarted when it has not announced itself after so long."""

    name: str
    argv: tuple[str, ...]
    critical: bool = True
    ready_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Policy:
    """Restarts: ``max_restarts`` within ``window_s`` and the child is given up; the pause before each doubles.

    ``hopeless``: exit statuses after which a restart would not help (bad input), so the child is given up at once.
    Shutdown: seconds after SIGINT before SIGTERM, and after SIGTERM before SIGKILL.
    """

    max_restarts: int = 5
    window_s: float = 60.0
    first_pause_s: float = 0.5
    longest_pause_s: float = 8.0
    interrupt_s: float = 6.0
    terminate_s: float = 3.0
    hopeless: tuple[int, ...] = (2,)


class State(str, Enum):
    """What a child is up to."""

    __str__ = str.__str__

    STARTING = "starting"
    READY = "ready"
    PAUSING = "pausing"
    GIVEN_UP = "given up"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Status:
    """A child at one instant. ``pid`` is 0 while no process runs; ``last_end`` says how the last process ended."""

    name: str
    state: State
    pid: int
    restarts: int
    last_end: str = ""


@dataclass
class _Running:
    child: Child
    state: State = State.STOPPED
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    start_again: float = 0.0
    pause_s: float = 0.0
    restarts: int = 0
    ends: list[float] = field(default_factory=list)
    last_end: str = ""
    segments: frozenset[str] = frozenset()


class Supervisor:
    """Keeps a set of children running between `start` and `stop`; also a context manager."""

    def __init__(
        self,
        children: Sequence[Child],
        *,
        env: Mapping[str, str],
        log_dir: Path,
        policy: Policy | None = None,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        """``env`` is each child's whole environment; output goes to ``log_dir/<name>.log``, appended.

        ``tell`` gets one line for every restart and for giving up, from the supervisor's thread.
        """
        self._env = dict(env)
        self._log_dir = log_dir
        self._policy = policy or Policy()
        self._tell = tell
        self._children = [_Running(c) for c in children]
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._all_ready = threading.Event()
        self._failed = threading.Event()
        self._failure = ""
        # Children are started by this one thread: the kernel ties them to the thread that started them.
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    # -- for the caller -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start all children; returns at once."""
        self._log_dir.mkdir(parents=True, exist_ok=True)
        # A supervisor that was killed could not tidy up after its children.
        remove_orphans(self._noted_segments())
        self._thread.start()

    def wait_ready(self, timeout_s: float, progress: Callable[[int, int], None] = lambda ready, total: None) -> bool:
        """Wait until every child is ready (or given up, if not critical); False after ``timeout_s`` or a failure."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end and not self._failed.is_set():
            states = [s.state for s in self.statuses()]
            progress(sum(s is State.READY for s in states), len(states))
            if self._all_ready.wait(0.2):
                return True
        return self._all_ready.is_set() and not self._failed.is_set()

    def statuses(self) -> tuple[Status, ...]:
        """All children now, in the given order."""
        with self._lock:
            return tuple(
                Status(r.child.name, r.state, r.process.pid if r.process else 0, r.restarts, r.last_end) for r in self._children
            )

    @property
    def failure(self) -> str:
        """Why everything was shut down, or an empty text."""
        return self._failure

    @property
    def failed(self) -> bool:
        """A critical child was given up; all children are being, or have been, stopped."""
        return self._failed.is_set()

    def stop(self) -> None:
        """Stop all children: SIGINT, then SIGTERM, then SIGKILL. Returns when none is left; safe to call again."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def __enter__(self) -> Supervisor:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    # -- the supervisor's thread ----------------------------------------------------------------------------------

    def _watch(self) -> None:
        noted = 0.0
        try:
            for running in self._children:
                self._launch(running)
            while not self._stopping.wait(TICK_S) and not self._failed.is_set():
                for running in self._children:
                    self._look_at(running)
                if not self._failed.is_set() and all(r.state in (State.READY, State.GIVEN_UP) for r in self._children):
                    self._all_ready.set()
                if time.monotonic() - noted > SHM_EVERY_S:
                    noted = time.monotonic()
                    self._note_segments()
        except Exception as e:  # noqa: BLE001 - a supervisor that dies silently would leave the caller waiting
            self._fail(f"supervisor: {type(e).__name__}: {e}")
        finally:
            self._shut_down()

    def _launch(self, running: _Running) -> None:
        child = running.child
        ready = self._ready_file(child)
        ready.unlink(missing_ok=True)
        leash = str(Path(__file__).with_name("_leash.py"))
        argv = [sys.executable, "-I", "-S", leash, str(os.getpid()), *child.argv]
        with (self._log_dir / f"{child.name}.log").open("ab") as log:
            process = subprocess.Popen(
                argv,
                env={**self._env, READY_FILE: str(ready)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        with self._lock:
            running.process, running.state, running.started = process, State.STARTING, time.monotonic()

    def _look_at(self, running: _Running) -> None:
        now = time.monotonic()
        if running.process is None:
            if running.state is State.PAUSING and now >= running.start_again:
                self._launch(running)
            return
        code = running.process.poll()
        if code is not None:
            _signal(running.process, signal.SIGKILL)  # whatever it started itself
            self._ended(running, _how(code), hopeless=code in self._policy.hopeless)
        elif running.state is State.STARTING:
            if is_ready(self._ready_file(running.child), running.process.pid):
                with self._lock:
                    running.state = State.READY
            elif now - running.started > running.child.ready_s:
                _signal(running.process, signal.SIGKILL)
                running.process.wait()
                self._ended(running, f"not ready after {running.child.ready_s:.0f} s")

    def _ended(self, running: _Running, how: str, *, hopeless: bool = False) -> None:
        now, policy, name = time.monotonic(), self._policy, running.child.name
        remove_orphans(running.segments, ports=False)
        running.ends = [t for t in running.ends if now - t < policy.window_s] + [now]
        give_up = hopeless or len(running.ends) > policy.max_restarts
        running.pause_s = min(policy.first_pause_s * 2 ** (len(running.ends) - 1), policy.longest_pause_s)
        with self._lock:
            running.process, running.last_end = None, how
            running.state = State.GIVEN_UP if give_up else State.PAUSING
            running.start_again = now + running.pause_s
            running.restarts += 0 if give_up else 1
        if not give_up:
            self._tell(f"{name} {how}; restart {running.restarts}")
            return
        why = how if hopeless else f"ended {len(running.ends)} times in {policy.window_s:.0f} s, last: {how}"
        text = f"{name} {why}; given up. {self._tail(name)}"
        self._tell(text)
        if running.child.critical:
            self._fail(text)

    def _fail(self, text: str) -> None:
        self._failure = text
        self._failed.set()

    def _shut_down(self) -> None:
        policy = self._policy
        self._note_segments()
        for sign, patience_s in (
            (signal.SIGINT, policy.interrupt_s),
            (signal.SIGTERM, policy.terminate_s),
            (signal.SIGKILL, 5.0),
        ):
            alive = [r.process for r in self._children if r.process is not None and r.process.poll() is None]
            if not alive:
                break
            for process in alive:
                _signal(process, sign)
            end = time.monotonic() + patience_s
            while time.monotonic() < end and any(p.poll() is None for p in alive):
                time.sleep(0.05)
        for running in self._children:
            if running.process is not None:
                # Whatever a child started itself is in its process group.
                _signal(running.process, signal.SIGKILL)
                with self._lock:
                    running.last_end = _how(running.process.wait())
                    running.process = None
            with self._lock:
                running.state = State.GIVEN_UP if running.state is State.GIVEN_UP else State.STOPPED
            self._ready_file(running.child).unlink(missing_ok=True)
        remove_orphans(self._noted_segments())
        (self._log_dir / "shm.txt").unlink(missing_ok=True)

    # -- files ----------------------------------------------------------------------------------------------------

    def _ready_file(self, child: Child) -> Path:
        return self._log_dir / f".{child.name}.ready"

    def _tail(self, name: str) -> str:
        """The end of a child's log on one line, for the message that it was given up."""
        path = self._log_dir / f"{name}.log"
        try:
            with path.open("rb") as f:
                f.seek(max(0, path.stat().st_size - 4096))
                lines = [s.strip() for s in f.read().decode("utf-8", "replace").splitlines() if s.strip()]
        except OSError:
            return f"See {path}"
        return f"See {path}: {' | '.join(lines[-TAIL_LINES:])[-TAIL_CHARACTERS:]}"

    def _note_segments(self) -> None:
        """Remember which shared memory belongs to the children, also on disk for whoever comes after a SIGKILL."""
        before = {r.child.name: r.segments for r in self._children}
        for running in self._children:
            if running.process is not None and running.process.poll() is None:
                running.segments |= segments_of(running.process.pid)
        if any(r.segments != before[r.child.name] for r in self._children):
            names = sorted(set().union(*(r.segments for r in self._children)))
            (self._log_dir / "shm.txt").write_text("\n".join(names) + "\n", encoding="ascii")

    def _noted_segments(self) -> list[str]:
        names = [n for r in self._children for n in r.segments]
        try:
            names += (self._log_dir / "shm.txt").read_text(encoding="ascii").split()
        except (OSError, UnicodeDecodeError):
            pass
        return names


def _signal(process: subprocess.Popen[bytes], sign: signal.Signals) -> None:
    """Signal a child; SIGKILL goes to its whole process group (it leads one of its own)."""
    try:
        if sign is signal.SIGKILL:
            os.killpg(process.pid, sign)
        else:
            process.send_signal(sign)
    except (ProcessLookupError, PermissionError):
        pass


def _how(code: int) -> str:
    """An exit status for people."""
    if code >= 0:
        return f"ended with exit status {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
