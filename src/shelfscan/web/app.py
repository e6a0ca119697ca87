"""The HTTP API and the page. Read-only; nothing is loaded from anywhere but this server."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.middleware.trustedhost import TrustedHostMiddleware

from shelfscan import __version__
from shelfscan.web import answers
from shelfscan.web.layout import store_layout
from shelfscan.web.live import RunView, Snapshot
from shelfscan.web.runs import Runs
from shelfscan.web.schema import BinDetail, FindingOut, Health, MissionOut, RunOut, StockMapOut, StoreOut, SyncOut

STATIC = Path(__file__).parent / "static"
STATIC_FILES = {"app.js": "text/javascript", "draw.js": "text/javascript", "app.css": "text/css", "icon.svg": "image/svg+xml"}
#: How often an open event stream looks for news; with the ledger's own pace this keeps news under a second.
STREAM_S = 0.4
#: A quiet event stream says that it is alive this often.
BEAT_S = 15.0
#: Nothing from elsewhere, no inline scripts; reports carry their styles in the page.
POLICY = "default-src 'self'; img-src 'self' data:; style-src 'self'{styles}; frame-ancestors 'none'; base-uri 'none'"
LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")

RunName = Annotated[str, Query(description="A name from /api/runs; the current run when absent.")]


class Activity:
    """When somebody asked last, and whether the server is closing; shared with whoever runs the app."""

    def __init__(self) -> None:
        self.last = time.monotonic()
        self.streams = 0
        self.closing = threading.Event()

    @property
    def idle_s(self) -> float:
        """Seconds without a request; an open page counts as one."""
        return 0.0 if self.streams else time.monotonic() - self.last


def create_app(runs: Runs, *, hosts: tuple[str, ...] = LOCAL_HOSTS, activity: Activity | None = None) -> FastAPI:
    """The application over run folders. ``hosts``: names it answers to (guards a local server against foreign pages)."""
    seen = activity or Activity()
    app = FastAPI(
        title="shelfscan",
        version=__version__,
        description="Read-only: a run's store, mission, stock map, findings and WMS sync. See docs/api.md.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    app.add_middleware(GZipMiddleware, minimum_size=2000)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))

    @app.middleware("http")
    async def _guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        seen.last = time.monotonic()
        response = await call_next(request)
        response.headers.setdefault("Content-Security-Policy", POLICY.format(styles=""))
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Referrer-Policy", "no-referrer")
        response.headers.setdefault("Cache-Control", "no-cache")
        return response

    def view_of(run: str) -> RunView:
        view = runs.view(run)
        if view is None:
            raise HTTPException(404, f"no run named {run!r}" if run else "no run yet")
        return view

    def opened(run: str) -> tuple[RunView, Snapshot]:
        view = view_of(run)
        return view, view.look()

    @app.get("/api/runs", tags=["runs"])
    def list_runs() -> list[RunOut]:
        """Run folders, newest first."""
        current = runs.current()
        return [
            RunOut(
                run=folder.name,
                site=info.site,
                mission_id=info.mission_id,
                mode=info.mode,
                created_at=info.created_at,
                ended=(folder / "report.json").is_file(),
                current=folder.name == current,
            )
            for folder, info in runs.listing()
        ]

    @app.get("/api/store", tags=["store"])
    def get_store(run: RunName = "") -> StoreOut:
        """The layout to draw; 404 when the store bundle cannot be read (the reason is in ``detail``)."""
        _, now = opened(run)
        if now.bundle is None:
            raise HTTPException(404, now.bundle_problem)
        return store_layout(now.bundle)

    @app.get("/api/mission", tags=["mission"])
    def get_mission(run: RunName = "") -> MissionOut:
        """Where the run is; ``state`` "no_run" when there is none yet."""
        if not run and runs.view() is None:
            return answers.no_run()
        return answers.mission(*opened(run))

    @app.get("/api/stock_map", tags=["stock"])
    def get_stock_map(run: RunName = "") -> StockMapOut:
        """The newest stock map with its key figures; 404 while there is none."""
        _, now = opened(run)
        if now.stock_map is None:
            raise HTTPException(404, "no stock map yet")
        return answers.stock_map(now, now.stock_map)

    @app.get("/api/bins/{bin_id}", tags=["stock"])
    def get_bin(bin_id: str, run: RunName = "") -> BinDetail:
        """All that is known of one bin."""
        detail = answers.bin_detail(*opened(run), bin_id)
        if detail is None:
            raise HTTPException(404, f"no bin {bin_id!r} in the stock map")
        return detail

    @app.get("/api/findings", tags=["stock"])
    def get_findings(run: RunName = "") -> list[FindingOut]:
        """What to act on, most money at stake first."""
        return answers.findings(opened(run)[1])

    @app.get("/api/sync", tags=["wms"])
    def get_sync(run: RunName = "") -> SyncOut:
        """What the bridge and the WMS agreed on."""
        return answers.sync(opened(run)[1])

    @app.get("/api/events", tags=["mission"], response_class=StreamingResponse)
    async def get_events(run: RunName = "") -> StreamingResponse:
        """Server-sent events: ``change`` with ``{"run", "mission", "stock_map", "sync"}``, version numbers to compare."""
        return StreamingResponse(_changes(runs, run, seen), media_type="text/event-stream")

    @app.get("/healthz", tags=["service"])
    def healthz() -> Health:
        """Whether the server answers, and which run it shows."""
        return Health(ok=True, version=__version__, run=runs.current())

    def picture(path: Path | None, what: str) -> FileResponse:
        if path is None:
            raise HTTPException(404, f"no such {what}")
        return FileResponse(path, headers={"Cache-Control": "private, max-age=3600"})

    @app.get("/evidence/{name:path}", tags=["stock"], response_class=FileResponse)
    def get_evidence(name: str, run: RunName = "") -> FileResponse:
        """A picture of the run's evidence."""
        view = view_of(run)
        return picture(answers.inside(view.run_dir / "evidence", answers.evidence_name(name)), "picture")

    @app.get("/reference/{sku}/{number}", tags=["store"], response_class=FileResponse)
    def get_reference(sku: str, number: int, run: RunName = "") -> FileResponse:
        """A reference photograph of the catalogue's gallery."""
        _, now = opened(run)
        paths = now.bundle.gallery.get(sku, ()) if now.bundle else ()
        return picture(paths[number] if 0 <= number < len(paths) else None, "picture")

    @app.get("/runs/{run}/{name:path}", tags=["runs"], response_class=FileResponse)
    def get_file(run: str, name: str) -> FileResponse:
        """A finished run's files: the report with its pictures, the maps and tables."""
        view = view_of(run)
        if name not in answers.FILES and not name.startswith("evidence/"):
            raise HTTPException(404, f"a run offers {', '.join(answers.FILES)}")
        root = view.run_dir / "evidence" if name.startswith("evidence/") else view.run_dir
        path = answers.inside(root, answers.evidence_name(name))
        if path is None:
            raise HTTPException(404, f"{name}: not in this run")
        return FileResponse(path, headers={"Content-Security-Policy": POLICY.format(styles=" 'unsafe-inline'")})

    for name, kind in STATIC_FILES.items():
        app.add_api_route(f"/static/{name}", _static(name, kind), include_in_schema=False)
    app.add_api_route("/favicon.ico", _static("icon.svg", "image/svg+xml"), include_in_schema=False)
    app.add_api_route("/", _static("index.html", "text/html; charset=utf-8"), include_in_schema=False)

    @app.exception_handler(404)
    async def _missing(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": getattr(error, "detail", "not found")}, 404)

    return app


def _static(name: str, media_type: str) -> Callable[[], FileResponse]:
    def send() -> FileResponse:
        return FileResponse(STATIC / name, media_type=media_type)

    return send


async def _changes(runs: Runs, run: str, seen: Activity) -> AsyncIterator[str]:
    """Tells when something changed, starting with what is there now. Ends when the server closes."""
    told: dict[str, object] | None = None
    beat = time.monotonic()
    seen.streams += 1
    try:
        while not seen.closing.is_set():
            current = await run_in_threadpool(_versions, runs, run)
            if current != told:
                told = current
                beat = time.monotonic()
                yield f"event: change\ndata: {json.dumps(current)}\n\n"
            elif time.monotonic() - beat > BEAT_S:
                beat = time.monotonic()
                yield ": still here\n\n"
            await asyncio.sleep(STREAM_S)
    finally:
        seen.streams -= 1
        seen.last = time.monotonic()


def _versions(runs: Runs, run: str) -> dict[str, object]:
    view = runs.view(run)
    if view is None:
        return {"run": "", "mission": 0, "stock_map": 0, "sync": 0}
    return {"run": view.run_dir.name, **view.look().versions}
