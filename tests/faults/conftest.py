"""The fixtures of the collection tests, for the faults of delivery."""

from tests.collect.conftest import (
    _no_current_recorder,
    make_recorder,
    recorder,
    rows,
)

__all__ = ["_no_current_recorder", "make_recorder", "recorder", "rows"]
