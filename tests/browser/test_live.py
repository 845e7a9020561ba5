"""The Live page in a browser: it follows the database by itself, and stops when asked."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from playwright.sync_api import expect

from perfcore.server.launch import free_port
from tests.browser.pages import CHROMIUM, chromium, new_page, open_page, settle, shoot
from tests.collect.test_activity import TABLE, busy, until
from tests.needs import need
from tests.targets import reader_dsn, run_setup

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def address(store: str, dsn: str) -> Iterator[str]:
    """The address of a dashboard that watches the database of the test."""
    need(CHROMIUM, "chromium")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TABLE.encode())
    run_setup(dsn)
    port = free_port(0)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PERFCORE_")}
    environ = kept | {
        "PERFCORE_STORE": store,
        "PERFCORE_TARGETS": f"shop={reader_dsn(dsn)}",
        "PERFCORE_PORT": str(port),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "perfcore", "serve"], cwd=ROOT, env=environ,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with httpx.Client() as client:
            _answers(client, f"http://127.0.0.1:{port}/_stcore/health", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def _answers(client: httpx.Client, url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, "the dashboard ended"
        try:
            if client.get(url).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


def test_it_follows_the_database_until_it_is_stopped(address: str, dsn: str) -> None:
    with chromium() as browser:
        page = new_page(browser)
        open_page(page, f"{address}/live")
        expect(page.get_by_text("No session waits for another.")).to_be_visible()
        with psycopg.connect(dsn, application_name="console") as console:
            console.execute("UPDATE stock SET left_over = 4")
            with busy(dsn, "DELETE FROM stock WHERE id = 1", "clerk") as clerk:
                until(dsn, lambda p: p.waiting)
                root = page.locator(".pf-tree > li").filter(has_text="blocks 1")
                expect(root).to_be_visible(timeout=20_000)
                expect(root.locator("ul > li")).to_contain_text(str(clerk))
                page.get_by_text("Refresh every 2 s").click()
                settle(page)
                if folder := os.environ.get("SCREENSHOTS"):
                    shoot(page, Path(folder) / "live.png")
        until(dsn, lambda p: not p.waiting)
        page.wait_for_timeout(5_000)
        expect(root).to_be_visible()
        page.get_by_role("button", name="Look once").click()
        expect(page.get_by_text("No session waits for another.")).to_be_visible(timeout=20_000)
