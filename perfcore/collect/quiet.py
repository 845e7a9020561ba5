"""Log lines of a component inside somebody's application: at most one a minute."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable


class QuietLog:
    """Writes a warning at once, or the latest of those held back when the minute is over."""

    def __init__(
        self,
        log: logging.Logger,
        every_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._every_s = every_s
        self._clock = clock
        self._next = 0.0
        self._held = 0
        self._latest = ""

    def warning(self, text: str) -> None:
        self._held += 1
        self._latest = text
        self.tick()

    def tick(self) -> None:
        """Write what is held back, if it is time."""
        now = self._clock()
        if not self._held or now < self._next:
            return
        before = f" ({self._held - 1} more since the last line)" if self._held > 1 else ""
        self._log.warning("perfcore: %s%s", self._latest, before)
        self._next = now + self._every_s
        self._held = 0
