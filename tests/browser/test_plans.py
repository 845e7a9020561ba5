"""Plans in a browser: three shapes drawn on a query's page, two side by side, a hostile one.

Pictures are saved in the folder that SCREENSHOTS names, if it is set.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect
from psycopg.types.json import Jsonb

from perfcore.db import connect
from perfcore.plan import parse_plan
from perfcore.server.embedded import Cluster
from tests import plan_samples
from tests.browser import pages
from tests.browser.pages import CHROMIUM, chromium, pick, shoot
from tests.needs import need
from tests.seeding import STATEMENTS, Seeded, seed_store

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
# A busy machine takes its time; only what is shown decides.
PATIENCE_S = 90.0
# A statement of the seeded store, by its place there, and the plan that it is given.
SHAPES = {"seq_scan_sort": 0, "nested_loop": 2, "hash_spill": 5}


@pytest.fixture(scope="module")
def shop(cluster18: Cluster) -> Iterator[str]:
    with plan_samples.database(cluster18, "browser_shop") as dsn:
        plan_samples.make_shop(dsn, orders=240_000)
        yield dsn


@pytest.fixture(scope="module")
def dashboard(cluster18: Cluster, _store_template: str, shop: str) -> Iterator[str]:
    """The address of a dashboard on a seeded store whose statements have real plans."""
    need(CHROMIUM, "chromium")
    with plan_samples.database(cluster18, "browser_store", _store_template) as dsn:
        seeded = seed_store(dsn, minutes=60)
        _give_plans(dsn, seeded, shop)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PERFCORE_")}
        process = subprocess.Popen(
            [sys.executable, "-m", "perfcore", "serve"],
            cwd=ROOT,
            env=kept | {"PERFCORE_STORE": dsn, "PERFCORE_PORT": str(port)},
            stdin=subprocess.DEVNULL,
        )
        try:
            _wait_for(process, port)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=30)


def _give_plans(dsn: str, seeded: Seeded, shop: str) -> None:
    half = seeded.start + (seeded.now - seeded.start) / 2
    plans = {name: plan_samples.explain(shop, name) for name in SHAPES}
    with connect(shop, autocommit=True) as connection:
        connection.execute("CREATE INDEX orders_status_idx ON orders (status, created_at DESC)")
        connection.execute("ANALYZE orders")
    plans["index_scan"] = plan_samples.explain(shop, "seq_scan_sort")
    with connect(dsn) as connection:
        shapes: dict[str, str] = {}
        connection.execute("DELETE FROM perfcore.plans")
        connection.execute(
            "UPDATE perfcore.statements SET server_calls = 14000, min_exec_time_ms = 1.5,"
            " mean_exec_time_ms = 141, max_exec_time_ms = 2500, stddev_exec_time_ms = 33,"
            " counted_since = now() - interval '9 days'"
        )
        for name, answer in plans.items():
            statement = STATEMENTS[SHAPES.get(name, 0)]
            first = half if name == "index_scan" else seeded.start
            last = half if name == "seq_scan_sort" else seeded.now
            plan = parse_plan(answer)
            row = connection.execute(
                "INSERT INTO perfcore.plans (target_id, fingerprint, queryid, shape_hash,"
                " is_generic, total_cost, plan, first_seen, last_seen)"
                " VALUES (%s, %s, %s, %s, false, %s, %s, %s, %s) RETURNING plan_id",
                (seeded.target_id, statement.fingerprint, statement.queryid, plan.shape_hash,
                 plan.total_cost, Jsonb(answer), first, last + timedelta(seconds=1)),
            ).fetchone()  # fmt: skip
            assert row is not None
            shapes[name] = plan.shape_hash
            connection.execute(
                "INSERT INTO perfcore.plan_uses (plan_id, target_id, fingerprint, is_generic,"
                " seen_from, seen_to) VALUES (%s, %s, %s, false, %s, %s)",
                (row[0], seeded.target_id, statement.fingerprint, first, last),
            )
        connection.execute(
            "INSERT INTO perfcore.markers (at, kind, label, target_id, details)"
            " VALUES (%s, 'plan change', 'another plan for a statement on orders', %s, %s)",
            (half, seeded.target_id,
             Jsonb({"fingerprint": str(STATEMENTS[0].fingerprint),
                    "before": shapes["seq_scan_sort"], "after": shapes["index_scan"]})),
        )  # fmt: skip


def _wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the dashboard ended"
        try:
            if httpx.get(f"http://127.0.0.1:{port}/_stcore/health").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.3)
    raise AssertionError("the dashboard did not answer within 60 s")


def new_page(browser: Browser, **look: Any) -> Page:
    page = pages.new_page(browser, **look)
    page.set_default_timeout(PATIENCE_S * 1000)
    return page


open_page = partial(pages.open_page, timeout_s=PATIENCE_S)
settle = partial(pages.settle, timeout_s=PATIENCE_S)


@pytest.fixture
def page() -> Iterator[Page]:
    with chromium() as browser:
        page = new_page(browser)
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        yield page
        assert not problems, problems


def _shoot(page: Page, name: str) -> None:
    if folder := os.environ.get("SCREENSHOTS"):
        shoot(page, Path(folder) / f"{name}.png")


def _drawn(page: Page) -> str:
    """Return what stands in the figures of the page."""
    texts: list[str] = page.locator("[data-testid=stPlotlyChart] svg text").all_text_contents()
    return "\n".join(texts)


def test_three_shapes_read_well_at_every_width_in_both_themes(dashboard: str) -> None:
    told = {"seq_scan_sort": "removed by filter", "nested_loop": "loops",
            "hash_spill": "MiB sorted on disk"}  # fmt: skip
    with chromium() as browser:
        for width in (1440, 900):
            for dark in (False, True):
                page = new_page(browser, width=width, dark=dark)
                for number, (name, place) in enumerate(SHAPES.items(), 1):
                    open_page(page, f"{dashboard}/query?queryid={STATEMENTS[place].queryid}")
                    if name == "seq_scan_sort":
                        _choose_the_older(page)
                    assert told[name] in _drawn(page)
                    assert not _outside(page)
                    _shoot(page, f"query_plan_{number}_{'dark' if dark else 'light'}_{width}")
                page.context.close()


def _choose_the_older(page: Page) -> None:
    """Click the bar of the first plan in the timeline."""
    page.locator("[data-testid=stPlotlyChart]").filter(has_text="mean of").locator(
        ".bars .point path"
    ).first.click(force=True)
    page.wait_for_url(re.compile(r"plan=\d+"))
    settle(page)


def _outside(page: Page) -> list[str]:
    """Return the texts of the plan's drawing that reach beyond it."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll('[data-testid=stPlotlyChart]')].flatMap(chart => {
            const box = chart.getBoundingClientRect();
            return [...chart.querySelectorAll('.annotation text')].filter(text => {
                const t = text.getBoundingClientRect();
                return t.left < box.left - 1 || t.right > box.right + 1
                    || t.top < box.top - 1 || t.bottom > box.bottom + 1;
            }).map(text => text.textContent);
        })"""
    )
    return found


def test_a_click_on_a_step_lights_it_and_the_url_keeps_it(dashboard: str, page: Page) -> None:
    open_page(page, f"{dashboard}/query?queryid={STATEMENTS[5].queryid}")
    tree = page.locator("[data-testid=stPlotlyChart]").filter(has_text="own time")
    tree.locator(".bars .point path").nth(2).click(force=True)
    page.wait_for_url(re.compile(r"step=2"))
    settle(page)
    lit = tree.locator("path[style*='rgb(59, 130, 246)']")
    assert lit.count() == 1
    tree.locator(".bars .point path").nth(2).click(force=True)
    page.wait_for_function("() => !location.search.includes('step=')")


def test_two_plans_side_by_side_from_the_page(dashboard: str, page: Page) -> None:
    open_page(page, f"{dashboard}/query?queryid={STATEMENTS[0].queryid}")
    pick(page, "Compare this plan with")
    page.wait_for_url(re.compile(r"compare_plan=\d+"))
    settle(page)
    expect(page.get_by_text("Seq Scan on orders became Index Scan using")).to_be_visible()
    assert not _outside(page)
    _shoot(page, "query_compare_light_1440")


HOSTILE = '<b>bold</b><a href="https://evil.example/">link</a><br><img src=https://evil.example/x>'


def test_a_hostile_plan_is_text_and_nothing_else(dashboard: str, page: Page) -> None:
    node = {
        "Node Type": HOSTILE, "Relation Name": HOSTILE, "Index Name": HOSTILE, "Alias": HOSTILE,
        "Filter": HOSTILE, "Total Cost": 9, "Plan Rows": 1, "Subplan Name": HOSTILE,
    }  # fmt: skip
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    open_page(page, f"{dashboard}/plan")
    page.get_by_label("Plan", exact=True).fill(json.dumps([{"Plan": node}]))
    page.get_by_label("Plan", exact=True).press("Control+Enter")
    page.get_by_role("tab", name="Tree").wait_for()
    settle(page)
    assert "<b>bo" in _drawn(page)
    _is_harmless(page)
    tree = page.locator("[data-testid=stPlotlyChart]").first
    tree.hover(position={"x": 200, "y": 40})
    expect(tree.locator(".hoverlayer text").first).to_be_visible()
    assert "<a href=" in (tree.locator(".hoverlayer").text_content() or "")
    _is_harmless(page)
    page.get_by_role("tab", name="Flame").click()
    settle(page)
    assert "<b>bold" in _drawn(page)
    _is_harmless(page)
    page.get_by_label("A second plan").fill(json.dumps([{"Plan": node | {"Node Type": "Sort"}}]))
    page.get_by_label("A second plan").press("Control+Enter")
    expect(page.get_by_text("What differs")).to_be_visible()
    settle(page)
    _is_harmless(page)
    assert not [url for url in asked if "evil" in url]


def _is_harmless(page: Page) -> None:
    main = page.locator("[data-testid=stMain]")
    assert main.locator("a[href*='evil']").count() == 0
    assert main.locator("svg a").count() == 0
    assert main.locator("img").count() == 0


def test_the_viewer_draws_an_example(dashboard: str, page: Page) -> None:
    open_page(page, f"{dashboard}/plan")
    expect(page.get_by_text("Which EXPLAIN tells most")).to_be_visible()
    page.get_by_role("button", name="A hash join that spills to disk").click()
    page.get_by_role("tab", name="Tree").wait_for()
    settle(page)
    assert "16 batches" in _drawn(page)
    assert not _outside(page)
    _shoot(page, "plan_viewer_light_1440")
