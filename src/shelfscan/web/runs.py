"""Which run folders there are, and the views on those that were asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

from shelfscan.errors import BadInput
from shelfscan.runinfo import RunInfo, read_run_info
from shelfscan.web.live import RunView

#: Runs kept in memory; a night's list is browsed one by one.
KEPT = 4


class Runs:
    """One fixed run folder and those beside it, or the newest of a folder of runs.

    A run is called by its folder's name; names that are not in the listing do not exist, so no path can be smuggled in.
    """

    def __init__(self, runs_dir: Path, run_dir: Path | None = None, store: Path | None = None) -> None:
        self.runs_dir = runs_dir
        self._run_dir = run_dir
        self._store = store
        self._views: OrderedDict[str, RunView] = OrderedDict()
        self._lock = threading.Lock()

    def listing(self) -> list[tuple[Path, RunInfo]]:
        """All run folders, newest first."""
        found: list[tuple[Path, RunInfo]] = []
        try:
            folders = [p for p in self.runs_dir.iterdir() if p.is_dir()]
        except OSError:
            folders = []
        if self._run_dir is not None and self._run_dir not in folders:
            folders.append(self._run_dir)
        for folder in folders:
            try:
                found.append((folder, read_run_info(folder)))
            except BadInput:
                continue
        return sorted(found, key=lambda f: (f[1].created_at, f[0].name), reverse=True)

    def current(self) -> str:
        """Name of the run shown when none is named; empty when there is none yet."""
        if self._run_dir is not None:
            return self._run_dir.name if (self._run_dir / "run.json").is_file() else ""
        listing = self.listing()
        return listing[0][0].name if listing else ""

    def view(self, name: str = "") -> RunView | None:
        """The view on a run, or None when there is no such run."""
        name = name or self.current()
        if not name:
            return None
        with self._lock:
            view = self._views.get(name)
            if view is None or not (view.run_dir / "run.json").is_file():
                view = self._open(name)
                if view is None:
                    return self._views.get(name)
                self._views[name] = view
            self._views.move_to_end(name)
            while len(self._views) > KEPT:
                self._views.popitem(last=False)[1].close()
            return view

    def _open(self, name: str) -> RunView | None:
        folder = next((f for f, _ in self.listing() if f.name == name), None)
        if folder is None:
            return None
        try:
            return RunView(folder, self._store)
        except BadInput:
            return None

    def close(self) -> None:
        """Let go of everything."""
        with self._lock:
            for view in self._views.values():
                view.close()
            self._views.clear()


def runs_of(run_dir: Path | None, runs_dir: Path | None = None, store: Path | None = None) -> Runs:
    """For one run folder (its siblings are listed too), or for a folder of runs."""
    if run_dir is not None:
        run_dir = run_dir.resolve()
        return Runs(run_dir.parent, run_dir, store)
    return Runs((runs_dir or Path("runs")).resolve(), None, store)
