"""The fixtures of the collector's tests."""

from __future__ import annotations

from tests.collect.conftest import (
    _no_current_recorder,
    make_recorder,
    recorder,
    rows,
)

__all__ = ["_no_current_recorder", "make_recorder", "recorder", "rows"]
