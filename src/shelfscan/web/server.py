"""Serves run folders on this machine: in a thread, or as a process of its own that ends when nobody looks any more."""

from __future__ import annotations

import argparse
import socket
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from shelfscan.errors import BadInput, ShelfscanError
from shelfscan.runinfo import read_run_info
from shelfscan.web.app import LOCAL_HOSTS, Activity, create_app
from shelfscan.web.runs import Runs, runs_of

#: Where one looks first; the next free ones are tried when no port was asked for.
FIRST_PORT = 8000
TRIES = 50


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. ``port`` 0: 8000 or the next free one. Raises `BadInput` when the port or host is not to be had."""
    ports = [port] if port else [*range(FIRST_PORT, FIRST_PORT + TRIES), 0]
    problem: OSError | None = None
    for number in ports:
        sock: socket.socket | None = None
        try:
            family, kind, proto, _, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
            sock = socket.socket(family, kind, proto)
            # A port left in TIME_WAIT by the last server is free; one that another server listens on is still refused.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            sock.listen(128)
            return sock
        except OSError as e:
            problem = e
            if sock is not None:
                sock.close()
    what = f"port {port}" if port else "a free port"
    remedy = "choose another with --port" if port else "choose another address with --host"
    raise BadInput(f"{what} on {host} cannot be used: {problem.strerror if problem else 'unknown'}; {remedy}")


def url_of(sock: socket.socket) -> str:
    """The address to type into a browser."""
    host, port = sock.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}.get(host, host)
    return f"http://{host}:{port}/"


def make_server(runs: Runs, host: str, activity: Activity) -> uvicorn.Server:
    """A server that is not running yet; it answers to local names only unless it listens to the outside."""
    hosts = LOCAL_HOSTS if host in ("127.0.0.1", "localhost", "::1") else ("*",)
    app = create_app(runs, hosts=hosts, activity=activity)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=2, server_header=False
    )
    return uvicorn.Server(config)


@dataclass
class Served:
    """A dashboard that is being served."""

    url: str
    _server: uvicorn.Server
    _thread: threading.Thread
    _activity: Activity
    _runs: Runs

    def stop(self) -> None:
        """End it; returns once it ended (a few seconds at most). Calling it again does nothing."""
        self._activity.closing.set()
        self._server.should_exit = True
        self._thread.join(timeout=10.0)
        self._runs.close()


def start(run_dir: Path, port: int = 0, store: Path | None = None) -> Served:
    """Serve a run folder on 127.0.0.1 from a thread; returns once it answers. The folder may still be empty.

    Raises `BadInput` when the port cannot be had, `ShelfscanError` when the server does not come up.
    """
    sock = listen("127.0.0.1", port)
    activity, runs = Activity(), runs_of(run_dir, store=store)
    made = make_server(runs, "127.0.0.1", activity)
    thread = threading.Thread(target=made.run, kwargs={"sockets": [sock]}, name="dashboard", daemon=True)
    served = Served(url_of(sock), made, thread, activity, runs)
    thread.start()
    until = time.monotonic() + 20.0
    while not made.started:
        if not thread.is_alive() or time.monotonic() > until:
            served.stop()
            sock.close()
            raise ShelfscanError("the dashboard did not start")
        time.sleep(0.02)
    return served


def serve(runs: Runs, sock: socket.socket, host: str, *, idle_minutes: float = 0.0) -> None:
    """Serve until interrupted (SIGINT, SIGTERM), or until nobody asked for ``idle_minutes`` (0: for ever)."""
    activity = Activity()
    made = make_server(runs, host, activity)
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.25):
            if idle_minutes and activity.idle_s > idle_minutes * 60:
                made.should_exit = True
            if made.should_exit:
                # Open event streams end by themselves, so that the server need not cut them off.
                activity.closing.set()

    watcher = threading.Thread(target=watch, name="idle", daemon=True)
    watcher.start()
    try:
        made.run(sockets=[sock])
    except KeyboardInterrupt:
        # uvicorn shuts down cleanly first and then repeats the signal.
        pass
    finally:
        done.set()
        watcher.join()
        runs.close()


def main(arguments: list[str] | None = None) -> int:
    """``python -m shelfscan.web.server RUN``: a dashboard of its own process, for when a command ends and it shall stay."""
    parser = argparse.ArgumentParser(prog="python -m shelfscan.web.server", description="Serve a run folder.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--store", type=Path, default=None, help="store bundle, when it has moved")
    parser.add_argument("--port", type=int, default=0, help="0: 8000 or the next free one")
    parser.add_argument("--idle-minutes", type=float, default=15.0, help="ends after so long without requests; 0: never")
    options = parser.parse_args(arguments)
    try:
        read_run_info(options.run)
        sock = listen("127.0.0.1", options.port)
    except BadInput as e:
        print("\n".join(e.problems), file=sys.stderr)
        return 2
    # One line that a parent process can wait for.
    print(url_of(sock), flush=True)
    serve(runs_of(options.run, store=options.store), sock, "127.0.0.1", idle_minutes=options.idle_minutes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
