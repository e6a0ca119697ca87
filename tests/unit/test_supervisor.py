"""The supervisor with real child processes: small scripts that die, hang, refuse to stop, or never get ready."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shelfscan import shm
from shelfscan.ready import announce_ready, is_ready
from shelfscan.supervisor import Child, Policy, State, Supervisor

ROOT = Path(__file__).resolve().parents[2]
GOOD = "import time\nfrom shelfscan.ready import announce_ready\nannounce_ready()\ntime.sleep(600)\n"
QUICK = Policy(first_pause_s=0.05, longest_pause_s=0.1, interrupt_s=1.0, terminate_s=1.0)


def env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src")}


def child(name: str, code: str, **options: object) -> Child:
    return Child(name, (sys.executable, "-c", textwrap.dedent(code)), **options)  # type: ignore[arg-type]


def eventually(condition: Callable[[], bool], timeout_s: float = 15.0) -> bool:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_killed_child_is_started_again(tmp_path: Path) -> None:
    lines: list[str] = []
    with Supervisor([child("a", GOOD), child("b", GOOD)], env=env(), log_dir=tmp_path, policy=QUICK, tell=lines.append) as s:
        assert s.wait_ready(15.0)
        a, b = s.statuses()
        os.kill(a.pid, signal.SIGKILL)
        assert eventually(lambda: s.statuses()[0].state is State.READY and s.statuses()[0].pid not in (0, a.pid))
        again, other = s.statuses()
        assert (again.restarts, again.last_end) == (1, "was killed by SIGKILL")
        assert (other.pid, other.restarts) == (b.pid, 0)
        assert lines == ["a was killed by SIGKILL; restart 1"]
    assert not any(alive(p) for p in (a.pid, b.pid, again.pid))


def test_a_child_that_always_crashes_is_given_up_and_all_are_stopped(tmp_path: Path) -> None:
    crash = "import sys\nsys.exit('the lens cap is on')"
    with Supervisor([child("good", GOOD), child("bad", crash)], env=env(), log_dir=tmp_path, policy=QUICK) as s:
        good = s.statuses()[0].pid
        assert not s.wait_ready(30.0)
        assert s.failed
        assert "bad ended 6 times in 60 s, last: ended with exit status 1; given up" in s.failure
        assert "the lens cap is on" in s.failure
        assert str(tmp_path / "bad.log") in s.failure
        assert eventually(lambda: all(c.pid == 0 for c in s.statuses()))
    assert not alive(good)
    assert (tmp_path / "bad.log").read_text().count("the lens cap is on") == 6


def test_bad_input_is_given_up_at_once(tmp_path: Path) -> None:
    bad = "import sys\nprint('store.yaml: no aisles')\nsys.exit(2)"
    with Supervisor([child("bad", bad)], env=env(), log_dir=tmp_path, policy=QUICK) as s:
        assert not s.wait_ready(15.0)
        assert s.failure.startswith("bad ended with exit status 2; given up")
        assert "store.yaml: no aisles" in s.failure
        assert s.statuses()[0].restarts == 0


def test_a_child_that_is_not_critical_is_only_missed(tmp_path: Path) -> None:
    children = [child("good", GOOD), child("extra", "raise SystemExit(1)", critical=False)]
    with Supervisor(children, env=env(), log_dir=tmp_path, policy=QUICK) as s:
        assert s.wait_ready(30.0)
        assert [c.state for c in s.statuses()] == [State.READY, State.GIVEN_UP]
        assert not s.failed


def test_a_child_that_never_gets_ready_is_started_again(tmp_path: Path) -> None:
    slow_once = f"""
        import pathlib, time
        from shelfscan.ready import announce_ready
        mark = pathlib.Path({str(tmp_path / "mark")!r})
        if mark.exists():
            announce_ready()
        mark.touch()
        time.sleep(600)
    """
    with Supervisor([child("slow", slow_once, ready_s=2.0)], env=env(), log_dir=tmp_path, policy=QUICK) as s:
        assert s.wait_ready(20.0)
        assert s.statuses()[0].last_end == "not ready after 2 s"


def test_a_child_that_ignores_polite_signals_is_killed(tmp_path: Path) -> None:
    deaf = """
        import os, signal, subprocess, sys, time
        from shelfscan.ready import announce_ready
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
        announce_ready()
        time.sleep(600)
    """
    supervisor = Supervisor([child("deaf", deaf)], env=env(), log_dir=tmp_path, policy=QUICK)
    supervisor.start()
    assert supervisor.wait_ready(15.0)
    pid = supervisor.statuses()[0].pid
    grandchild = int((tmp_path / "deaf.log").read_text())
    began = time.monotonic()
    supervisor.stop()
    assert 2.0 <= time.monotonic() - began < 6.0
    assert supervisor.statuses()[0].last_end == "was killed by SIGKILL"
    assert eventually(lambda: not alive(pid) and not alive(grandchild))
    supervisor.stop()  # a second time changes nothing


def test_children_stop_on_sigint_before_anything_harsher(tmp_path: Path) -> None:
    tidy = """
        import time
        from shelfscan.ready import announce_ready
        try:
            announce_ready()
            time.sleep(600)
        except KeyboardInterrupt:
            print("tidied up", flush=True)
    """
    with Supervisor([child("tidy", tidy)], env=env(), log_dir=tmp_path, policy=QUICK) as s:
        assert s.wait_ready(15.0)
    assert (tmp_path / "tidy.log").read_text() == "tidied up\n"
    assert s.statuses()[0].last_end == "ended with exit status 0"
    assert not list(tmp_path.glob(".*.ready"))


def test_children_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    code = f"""
        import sys, os, pathlib, time
        from shelfscan.supervisor import Child, Supervisor
        deaf = "import signal, time; from shelfscan.ready import announce_ready\\n" \\
               "signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGTERM, signal.SIG_IGN)\\n" \\
               "announce_ready(); time.sleep(600)"
        children = [Child(n, (sys.executable, "-c", deaf)) for n in "ab"]
        s = Supervisor(children, env=dict(os.environ), log_dir=pathlib.Path({str(tmp_path)!r}))
        s.start()
        assert s.wait_ready(15.0)
        print(*(c.pid for c in s.statuses()), flush=True)
        time.sleep(600)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], env=env(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process:
        pids = [int(p) for p in process.stdout.readline().split()]
        assert len(pids) == 2 and all(alive(p) for p in pids)
        process.kill()
    assert eventually(lambda: not any(alive(p) for p in pids))


def test_a_missing_program_is_said(tmp_path: Path) -> None:
    with Supervisor([Child("none", ("/no/such/program",))], env=env(), log_dir=tmp_path, policy=QUICK) as s:
        assert not s.wait_ready(15.0)
        assert "/no/such/program: No such file or directory" in s.failure


def test_only_shared_memory_of_dead_owners_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shm, "SHM", tmp_path)
    for name in ("fastdds_dead", "fastdds_live"):
        (tmp_path / name).write_bytes(b"x")
        (tmp_path / f"{name}_el").touch()
    (tmp_path / "sem.fastdds_dead_mutex").touch()
    with (tmp_path / "fastdds_live_el").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert shm.remove_orphans(["fastdds_dead", "fastdds_live", "fastdds_unheard_of"]) == ["fastdds_dead"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fastdds_live", "fastdds_live_el"]


def test_ports_are_left_to_living_peers_and_removed_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shm, "SHM", tmp_path)
    for name in ("fastdds_port7411", "fastdds_port7411_el", "fastdds_port7413", "sem.fastdds_port7413_mutex"):
        (tmp_path / name).touch()
    names = ["fastdds_port7411", "fastdds_port7413"]
    assert shm.remove_orphans(names, ports=False) == []
    assert shm.remove_orphans(names) == names  # the second one without a lock file: nobody listens there
    assert not list(tmp_path.iterdir())


def test_ready_names_the_very_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "ready"
    announce_ready()  # without a supervisor: nothing
    monkeypatch.setenv("SHELFSCAN_READY_FILE", str(file))
    assert not is_ready(file, os.getpid())
    announce_ready()
    assert is_ready(file, os.getpid())
    assert not is_ready(file, os.getpid() + 1)
