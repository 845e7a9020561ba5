"""The fixtures of the collector's tests, and what every framework's test asks for."""

from __future__ import annotations

from tests.collect.conftest import (
    _no_current_recorder,
    make_recorder,
    recorder,
    rows,
)

__all__ = ["_no_current_recorder", "make_recorder", "recorder", "rows"]
