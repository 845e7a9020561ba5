"""Twins that a long-lived process keeps: one for each target, built when first asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from perfcore.whatif.twin import Twin

# A twin this old is compared with its target again before it answers.
_FRESH_S = 120.0


def _silent(fraction: float, message: str) -> None:
    return None


class TwinPool:
    """Hand out twins by target name; any thread may ask, and a twin is built only once."""

    def __init__(self, data_dir: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._data_dir = data_dir
        self._clock = clock
        self._lock = threading.Lock()
        self._building: dict[str, threading.Lock] = {}
        self._twins: dict[str, tuple[Twin, float]] = {}

    def twin(
        self, target_name: str, dsn: str, progress: Callable[[float, str], None] = _silent
    ) -> Twin:
        """Return the target's twin, built now if there is none and refreshed if it is old.

        Raises PlanningFailed or TargetUnavailable as Twin.build does; the next caller
        tries again.
        """
        with self._lock:
            building = self._building.setdefault(target_name, threading.Lock())
        with building:
            known = self._twins.get(target_name)
            if known is None:
                twin = Twin.build(dsn, self._data_dir, progress=progress)
            else:
                twin, checked_at = known
                if self._clock() - checked_at < _FRESH_S:
                    return twin
                twin.refresh()
            self._twins[target_name] = (twin, self._clock())
            return twin

    def close(self) -> None:
        """Remove every twin."""
        with self._lock:
            twins = [twin for twin, _ in self._twins.values()]
            self._twins.clear()
        for twin in twins:
            twin.close()
