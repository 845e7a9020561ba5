"""The whole chain in a browser, on the demo's real traffic: from the overview to the verdict.

Pictures of every page are saved in the folder that SCREENSHOTS names, if it is set.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import pytest
from playwright.sync_api import Page, expect

from tests.browser.pages import CHROMIUM, chromium, new_page, open_page, settle, shoot
from tests.needs import need

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1200)]

# How the suggestion's title begins (it may go on with INCLUDE columns), and the endpoint that it
# must help.
CASES = {
    "Index orders (customer_id, status, created_at DESC)": "GET /customers/{id}/orders",
    "Index customers (lower(email))": "GET /customers/by-email",
    "Index products using gin (attributes jsonb_path_ops)": "GET /products/filter",
}
# A change made before anything was measured could never be judged.
REQUESTS_BEFORE = 25
T = TypeVar("T")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def demo() -> Iterator[str]:
    """The address of a running demo, three tenths of its usual size and in more of a hurry."""
    need(CHROMIUM, "chromium")
    folder = Path(tempfile.mkdtemp(prefix="perfcore-demo-"))
    folder.chmod(0o755)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PERFCORE_")}
    environ = kept | {
        "PERFCORE_DATA_DIR": str(folder),
        "PERFCORE_PORT": "0",
        "PERFCORE_ADVISE_INTERVAL_S": "10",
        "PERFCORE_COLLECT_INTERVAL_S": "5",
    }
    output = folder / "demo.out"
    with output.open("w") as written:
        process = subprocess.Popen(
            [sys.executable, "-m", "perfcore", "demo", "--scale", "0.3", "--rate", "20"],
            cwd=ROOT,
            env=environ,
            stdout=written,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        try:
            yield _eventually(lambda: _address(process, output), 180, "the demo's address")
            _check_that_kill_leaves_nothing(process, folder)
        finally:
            process.kill()
            process.wait()
            shutil.rmtree(folder, ignore_errors=True)


def test_from_the_overview_to_the_proof(demo: str) -> None:
    for title, endpoint in CASES.items():
        _eventually(partial(_suggested, demo, title), 240, f"the suggestion {title!r}")
        _eventually(partial(_was_asked, demo, endpoint), 240, f"traffic of {endpoint}")
    with chromium() as browser:
        page = new_page(browser)
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        with _shown_on_failure(page):
            _walk_to_the_query(page, demo)
            for title in CASES:
                _test_and_apply(page, demo, title)
        verdicts = _eventually(lambda: _three_improved(demo), 420, "three verdicts")
        _look_at_the_ledger(page, demo, verdicts)
        for name in ("suggestions", "settings", "endpoints"):
            open_page(page, f"{demo}/{name}")
            _shoot(page, name)
        dark = new_page(browser, dark=True)
        open_page(dark, demo)
        _shoot(dark, "overview_dark")
        assert not problems, problems


@contextmanager
def _shown_on_failure(page: Page) -> Iterator[None]:
    """Add to a failure what the page showed instead of what was waited for."""
    try:
        yield
    except Exception as error:
        error.add_note(f"{page.url} showed:\n{page.locator('body').inner_text()}")
        raise


def _walk_to_the_query(page: Page, demo: str) -> None:
    open_page(page, demo)
    expect(page.get_by_text("p95 latency")).to_be_visible()
    _shoot(page, "overview_light")
    table = _table_in(page, "Slowest endpoints")
    _click_row(table, 0)
    page.wait_for_url(re.compile(r"/endpoint\?"))
    settle(page)
    _shoot(page, "endpoint")
    _click_row(_table_in(page, "Statements"), 0)
    page.wait_for_url(re.compile(r"/query\?"))
    settle(page)
    expect(page.get_by_text("Calls", exact=False).first).to_be_visible()
    _shoot(page, "query")
    open_page(page, f"{demo}/queries")
    _shoot(page, "queries")


def _test_and_apply(page: Page, demo: str, title: str) -> None:
    _eventually(partial(_open_in_the_lab, page, demo, title), 120, f"the lab of {title!r}")
    settle(page)
    page.get_by_role("button", name="Test this index").click()
    page.get_by_text("Measured", exact=True).wait_for(timeout=240_000)
    settle(page)
    expect(page.get_by_text("Estimated", exact=True)).to_be_visible()
    expect(page.get_by_text(re.compile("times faster")).first).to_be_visible()
    _shoot(page, "index_lab")
    page.get_by_role("button", name="Apply to shop").click()
    page.get_by_role("button", name="Create the index now").click()
    page.get_by_text("Live traffic decides").wait_for(timeout=120_000)


def _open_in_the_lab(page: Page, demo: str, title: str) -> bool:
    """Press the suggestion's button; False if the advisor has just changed its mind."""
    now = _suggested(demo, title)
    open_page(page, f"{demo}/suggestions")
    cards = (
        page.locator("[data-testid=stVerticalBlock]")
        .filter(has=page.get_by_text(now or title, exact=True))
        .filter(has=page.get_by_role("button", name="Test this index"))
    )
    if now is None or not cards.count():
        return False
    cards.last.get_by_role("button", name="Test this index").click()
    page.wait_for_url("**/index_lab*")
    return True


def _look_at_the_ledger(page: Page, demo: str, verdicts: list[dict[str, Any]]) -> None:
    open_page(page, f"{demo}/ledger")
    _shoot(page, "ledger")
    # The tables are canvases: what stands in their cells is there for screen readers only.
    page.get_by_text("improved", exact=True).nth(2).wait_for(state="attached", timeout=60_000)
    for change in verdicts:
        assert change["verdict"]["ratio"]["high"] < 1, change
    chart = page.locator(".js-plotly-plot").last  # promised and delivered
    _click_point(page, chart.locator(".scatterlayer .point").last)
    page.wait_for_url(re.compile(r"/(index_lab\?.*trial=|ledger\?.*change=)"))


def _click_point(page: Page, point: Any) -> None:
    """Click where a point lies: Plotly's layer for dragging is above it."""
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 3, y)
    page.mouse.move(x, y)
    page.wait_for_timeout(500)
    page.mouse.click(x, y)


def _table_in(page: Page, title: str) -> Any:
    blocks = page.locator("[data-testid=stVerticalBlock]").filter(
        has=page.locator("strong").get_by_text(title, exact=True)
    )
    return blocks.last.locator("[data-testid=stDataFrame]").first


def _click_row(table: Any, row: int) -> None:
    """Click the first cell of a row: the table is a canvas, so by its place."""
    table.scroll_into_view_if_needed()
    table.click(position={"x": 60, "y": 36 + 35 * row + 17})


def _suggested(demo: str, title: str) -> str | None:
    answer = httpx.get(f"{demo}/api/v1/suggestions", params={"limit": 100}, timeout=30)
    return next((s["title"] for s in _items(answer) if s["title"].startswith(title)), None)


def _was_asked(demo: str, endpoint: str) -> bool:
    found = _items(httpx.get(f"{demo}/api/v1/endpoints", timeout=30))
    return any(e["endpoint"] == endpoint and e["requests"] >= REQUESTS_BEFORE for e in found)


def _three_improved(demo: str) -> list[dict[str, Any]] | None:
    changes = _items(httpx.get(f"{demo}/api/v1/ledger", timeout=30))
    improved = [c for c in changes if (c["verdict"] or {}).get("verdict") == "improved"]
    return improved if len(improved) >= 3 else None


def _items(answer: httpx.Response) -> list[dict[str, Any]]:
    answer.raise_for_status()
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def _address(process: subprocess.Popen[bytes], output: Path) -> str | None:
    text = output.read_text()
    assert process.poll() is None, f"the demo ended:\n{text}"
    found = re.search(r"Open (http://\S+)", text)
    return found.group(1) if found else None


def _eventually(ask: Callable[[], T | None], seconds: float, what: str) -> T:
    deadline = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"{what} did not come within {seconds:.0f} s"
        time.sleep(1.0)


def _check_that_kill_leaves_nothing(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Kill the demo the hard way: all that it started is gone within ten seconds."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=10)
    left = [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert not left, f"{left} outlived the demo in {folder}"


def _shoot(page: Page, name: str) -> None:
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        shoot(page, Path(folder) / f"{name}.png")
