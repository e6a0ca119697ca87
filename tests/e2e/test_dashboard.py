"""The dashboard as people meet it: as a process, in a real browser, with a run that goes on meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.webrun import WebRun

from shelfscan.errors import BadInput
from shelfscan.web.server import listen, start, url_of

ROOT = Path(__file__).resolve().parents[2]
ENV = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[WebRun]:
    made = WebRun(tmp_path / "runs", "night")
    yield made
    made.ledger.close()


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def until(check: Callable[[], Any], seconds: float = 15.0) -> Any:
    end = time.monotonic() + seconds
    while True:
        value = check()
        if value or time.monotonic() > end:
            return value
        time.sleep(0.05)


def spawn(*arguments: str, cwd: Path | None = None) -> tuple[subprocess.Popen[str], str]:
    """A server process and the first line it writes with an address in it."""
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], env=ENV, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_served_from_a_thread_and_stopped_with_an_open_stream(run: WebRun) -> None:
    served = start(run.dir)
    try:
        assert get(served.url + "healthz")["run"] == "night"
        stream = urllib.request.urlopen(served.url + "api/events", timeout=10)
        assert stream.readline() == b"event: change\n"
        first = json.loads(stream.readline().removeprefix(b"data: "))
        stream.readline()
        run.begin()
        told = time.monotonic()
        assert stream.readline() == b"event: change\n"
        assert time.monotonic() - told < 1.5
        assert json.loads(stream.readline().removeprefix(b"data: "))["mission"] > first["mission"]
    finally:
        began = time.monotonic()
        served.stop()
    assert time.monotonic() - began < 6
    stream.close()
    with pytest.raises(OSError):
        get(served.url + "healthz")
    served.stop()


def test_the_next_free_port_is_taken_and_a_wanted_one_is_not_shared() -> None:
    first = listen("127.0.0.1", 0)
    try:
        port = first.getsockname()[1]
        with pytest.raises(BadInput, match=f"port {port} on 127.0.0.1 cannot be used"):
            listen("127.0.0.1", port)
        second = listen("127.0.0.1", 0)
        assert url_of(second) != url_of(first)
        second.close()
    finally:
        first.close()


def test_a_detached_server_ends_when_nobody_asks(run: WebRun) -> None:
    process, url = spawn("shelfscan.web.server", str(run.dir), "--idle-minutes", "0.05")
    try:
        assert get(url + "api/mission")["state"] == "waiting"
        asked = time.monotonic()
        assert process.wait(timeout=30) == 0
        assert time.monotonic() - asked > 2.5
    finally:
        end(process)


def test_an_open_page_keeps_a_detached_server(run: WebRun) -> None:
    process, url = spawn("shelfscan.web.server", str(run.dir), "--idle-minutes", "0.02")
    try:
        stream = urllib.request.urlopen(url + "api/events", timeout=10)
        assert stream.readline() == b"event: change\n"
        time.sleep(4.0)
        assert process.poll() is None
        stream.close()
        assert process.wait(timeout=30) == 0
    finally:
        end(process)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_serve_shows_the_newest_run_and_ends_cleanly(run: WebRun, sign: signal.Signals) -> None:
    process, line = spawn("shelfscan.cli.main", "serve", "--runs-dir", str(run.dir.parent))
    try:
        assert "night" in line
        url = line.split()[0]
        assert get(url + "api/mission")["run"] == "night"
        process.send_signal(sign)
        rest, _ = process.communicate(timeout=15)
        assert "Traceback" not in rest
        assert process.returncode in (0, 130, -sign)
    finally:
        end(process)


def test_serve_refuses_what_it_cannot_do(run: WebRun, tmp_path: Path) -> None:
    def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "shelfscan.cli.main", "serve", *arguments]
        return subprocess.run(command, env=ENV, capture_output=True, text=True, timeout=60)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = serve(str(run.dir), "--port", str(port))
    assert done.returncode == 2 and f"port {port}" in done.stderr and "Traceback" not in done.stderr
    done = serve(str(tmp_path))
    assert done.returncode == 2 and "not a run folder" in done.stderr
    done = serve(str(run.dir), "--store", str(tmp_path / "nowhere"))
    assert done.returncode == 2 and "no such store bundle" in done.stderr
    done = serve(str(run.dir), "--host", "no.such.host.invalid")
    assert done.returncode == 2 and "Traceback" not in done.stderr


# ---- in a browser ---------------------------------------------------------------------------------------------------


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium and chromedriver here")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", f"--user-data-dir={tmp_path / 'profile'}",
        "--window-size=1280,800",
    ):  # fmt: skip
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield made
    made.quit()


def script(browser: Any, code: str, *arguments: Any) -> Any:
    return browser.execute_script("return " + code, *arguments)


def bin_class(browser: Any, bin_id: str) -> str:
    return str(script(browser, "document.querySelector(`#face [data-bin='${arguments[0]}']`)?.getAttribute('class')", bin_id))


@pytest.mark.browser
@pytest.mark.timeout(180)
def test_the_page_follows_a_run_from_its_start_to_its_end(run: WebRun, browser: Any) -> None:
    served = start(run.dir)
    try:
        browser.get(served.url)
        assert until(lambda: script(browser, "document.getElementById('state').textContent")) == "Waiting for the mission"
        run.begin()
        assert until(lambda: "Running: driving" in browser.page_source, 5)
        # Nothing was looked at: every bin says so, none is empty or counted.
        shown = script(browser, "[...document.querySelectorAll('#face .bin')].map((b) => b.getAttribute('class'))")
        assert set(shown) == {"bin wait"}
        assert len(browser.find_elements("css selector", "#map .stop.done")) == 0

        began = time.monotonic()
        run.visit(0)
        assert until(lambda: browser.find_elements("css selector", "#map .stop.done"), 5)
        assert until(lambda: bin_class(browser, run.empty) == "bin out", 5)
        assert time.monotonic() - began < 4
        last = run.bins[-1]
        assert bin_class(browser, last) == "bin wait"
        for index in range(1, len(run.plan.viewpoints)):
            run.visit(index)
        run.end()
        assert until(lambda: script(browser, "document.getElementById('state').textContent") == "Done", 5)
        assert until(lambda: bin_class(browser, last) in ("bin ok", "bin low"), 5)
        # What was hidden is hatched and has a question mark; it is not empty.
        assert bin_class(browser, run.hidden) == "bin unseen"
        assert "?" in script(browser, "document.querySelector(`#face [data-bin='${arguments[0]}']`).textContent", run.hidden)
        figures = script(browser, "document.getElementById('figures').textContent")
        assert f"{len(run.bins) - 1}of {len(run.bins)} bins counted" in figures
        assert "1not seen1 something stood in front of it" in figures
        quiet(browser)
    finally:
        served.stop()
    assert until(lambda: script(browser, "document.getElementById('state').textContent") == "No connection to the server", 10)


@pytest.mark.browser
@pytest.mark.timeout(180)
def test_a_bin_is_chosen_by_mouse_keys_and_list(run: WebRun, browser: Any) -> None:
    run.begin()
    for index in range(len(run.plan.viewpoints)):
        run.visit(index)
    run.end()
    served = start(run.dir)
    try:
        browser.get(served.url)
        assert until(lambda: browser.find_elements("css selector", "#face .bin"))
        browser.find_element("css selector", f"#face [data-bin='{run.empty}']").click()
        name = run.bundle.catalogue[run.bundle.planogram[run.empty].sku].name
        assert until(lambda: script(browser, "document.getElementById('detail-title').textContent") == name)
        # The picture is there and decodes.
        assert until(lambda: script(browser, "document.querySelector('#detail .evidence')?.naturalWidth") == 80)
        detail = script(browser, "document.getElementById('detail').textContent")
        assert "Out of stock" in detail and "0 units" in detail and "on hand" in detail

        from selenium.webdriver.common.keys import Keys

        script(browser, "document.activeElement").send_keys(Keys.ARROW_RIGHT)
        assert until(lambda: "not seen" in script(browser, "document.getElementById('detail').textContent"))
        assert "does not mean empty" in script(browser, "document.getElementById('detail').textContent")
        assert script(browser, "document.activeElement.dataset.bin") == run.hidden

        entries = "[...document.querySelectorAll('#acts button')]"
        script(browser, f"{entries}.find((b) => b.textContent.includes(arguments[0])).click()", run.empty)
        assert until(lambda: script(browser, "document.getElementById('detail-title').textContent") == name)
        assert bin_class(browser, run.empty) == "bin out chosen"

        # On a phone nothing is wider than the screen.
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
        )
        assert until(lambda: script(browser, "document.documentElement.scrollWidth <= 390"))
        quiet(browser)
    finally:
        served.stop()


@pytest.mark.browser
@pytest.mark.timeout(180)
def test_trouble_is_shown(run: WebRun, browser: Any, tmp_path: Path) -> None:
    run.begin()
    run.visit(0)
    vid = run.plan.viewpoints[1].viewpoint_id
    for _ in range(3):
        run.append("viewpoint.failed", viewpoint_id=vid, what="drive", reason="blocked (code 204)")
    served = start(run.dir)
    try:
        browser.get(served.url)
        assert until(lambda: "degraded" in script(browser, "document.getElementById('state').textContent"))
        assert "blocked (code 204)" in script(browser, "document.getElementById('problems').textContent")
        assert browser.find_elements("css selector", "#map .stop.failed")
        (run.dir / "ledger.sqlite").rename(run.dir / "gone")
        assert until(lambda: script(browser, "document.getElementById('state').textContent") == "Ledger gone", 5)
        assert bin_class(browser, run.empty) == "bin out"
        quiet(browser)
    finally:
        served.stop()
    empty = start(tmp_path / "nothing-here")
    try:
        browser.get(empty.url)
        assert until(lambda: script(browser, "document.getElementById('empty-title').textContent") == "No run yet")
    finally:
        empty.stop()


def quiet(browser: Any) -> None:
    """No errors in the console: nothing failed to load, nothing was blocked by the page's own policy."""
    assert [e for e in browser.get_log("browser") if e["level"] in ("SEVERE", "WARNING")] == []
