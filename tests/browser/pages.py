"""Open a page of the dashboard in headless Chromium, wait until it stands still, picture it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright
from playwright.sync_api import TimeoutError as NotInTime

CHROMIUM = "/usr/bin/chromium"
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
# The script has ended, nothing is stale or a skeleton, and each chart has drawn something.
_STANDS_STILL = """() => {
    const all = (css) => [...document.querySelectorAll(css)].filter(
        (e) => e.checkVisibility() && e.getBoundingClientRect().height > 0);
    const app = document.querySelector('[data-testid=stApp]');
    if (!app || app.getAttribute('data-test-script-state') === 'running') return false;
    if (all('[data-testid=stStatusWidget], [data-testid=stSkeleton]').length) return false;
    if (!all('[data-testid=stMain] [data-testid=stElementContainer]').length) return false;
    if (all('[data-testid=stDataFrame]').some((frame) => !frame.querySelector('canvas')))
        return false;
    return all('[data-testid=stPlotlyChart]').every(
        (chart) => chart.querySelector('.main-svg'));
}"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run Debian's Chromium without a window for the length of the block."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(_FLAGS))
        yield browser
        browser.close()


def new_page(
    browser: Browser, *, width: int = 1440, height: int = 1080, dark: bool = False
) -> Page:
    """Return an empty page of that size, in the light or the dark theme."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        timezone_id="Europe/Berlin",
        locale="en-GB",
    )
    return context.new_page()


def settle(page: Page, *, timeout_s: float = 90.0) -> None:
    """Wait until Streamlit has run and what it drew has been still for half a second."""
    for _ in range(4):
        page.wait_for_function(_STANDS_STILL, timeout=timeout_s * 1000)
        page.wait_for_timeout(500)
        if page.evaluate(_STANDS_STILL):
            return
    raise NotInTime(f"{page.url} did not come to rest")


def open_page(page: Page, url: str, *, timeout_s: float = 90.0) -> None:
    """Go to a page of the dashboard and wait until it is drawn."""
    page.goto(url)
    settle(page, timeout_s=timeout_s)


def shoot(page: Page, path: Path, *, whole: bool = True) -> None:
    """Save a picture of what the page shows, `whole` to the end of its scrolling part."""
    size = page.viewport_size
    if whole and size:
        height = page.evaluate(
            "() => { const main = document.querySelector('[data-testid=stMain]');"
            " return main ? main.scrollHeight : document.body.scrollHeight; }"
        )
        page.set_viewport_size({"width": size["width"], "height": max(size["height"], height)})
        settle(page)
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(path))
    if whole and size:
        page.set_viewport_size(size)


def click_row(page: Page, row: int, *, table: int = 0, x: int = 120) -> None:
    """Click a row, from 0, of the n-th table that the page shows."""
    frame = page.locator("[data-testid=stDataFrame]").nth(table)
    frame.scroll_into_view_if_needed()
    page.wait_for_timeout(800)
    box = frame.bounding_box()
    assert box is not None
    y = box["y"] + 33 * (row + 1.5)
    # The grid takes a click for the cell that the pointer moved over last.
    page.mouse.move(box["x"] + x - 20, y + 2)
    page.mouse.move(box["x"] + x, y)
    page.mouse.click(box["x"] + x, y)


def pick(page: Page, name: str, *, option: int = 0) -> None:
    """Choose the n-th entry, from 0, of the list of that name.

    A list that Streamlit draws anew while it opens closes again: it is opened until it stays open.
    """
    entry = page.get_by_role("option").nth(option)
    for _ in range(10):
        page.get_by_role("combobox", name=name).click()
        try:
            entry.click(timeout=5000)
            return
        except NotInTime:
            page.keyboard.press("Escape")
    raise NotInTime(f"the list {name!r} of {page.url} did not open")


def main() -> None:
    """Picture pages of a running dashboard: `python -m tests.browser.pages URL FOLDER NAME…`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="+", help="'' for the overview, 'query?queryid=1', …")
    parser.add_argument("--width", type=int, default=1440)
    parser.add_argument("--dark", action="store_true")
    options = parser.parse_args()
    with chromium() as browser:
        page = new_page(browser, width=options.width, dark=options.dark)
        for name in options.names:
            open_page(page, f"{options.url}/{name}")
            look = "dark" if options.dark else "light"
            stem = name.partition("?")[0] or "overview"
            shoot(page, options.folder / f"{stem}_{look}_{options.width}.png")


if __name__ == "__main__":
    main()
