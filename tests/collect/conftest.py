"""A recorder on a real store, flushed by hand, and a shop over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from perfcore.collect import Recorder, sql_hooks
from perfcore.db import connect

Rows = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture(autouse=True)
def _no_current_recorder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_hooks, "_configured", [])


@pytest.fixture
def make_recorder(store: str, tmp_path: Path) -> Iterator[Callable[..., Recorder]]:
    made = []

    def make(dsn: str = store, **options: Any) -> Recorder:
        options = {"interval_s": 60, "sample_process": False, "spool_folder": tmp_path, **options}
        made.append(Recorder("shop", dsn, **options))
        return made[-1]

    yield make
    for recorder in made:
        recorder.close()


@pytest.fixture
def recorder(make_recorder: Callable[..., Recorder]) -> Recorder:
    return make_recorder()


@pytest.fixture
def rows(store: str) -> Iterator[Rows]:
    """Run a query on the store and return its rows."""
    with connect(store, autocommit=True) as connection:
        connection.execute("SET search_path = perfcore")
        yield lambda text: connection.execute(text.encode()).fetchall()
