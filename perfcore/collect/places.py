"""Which place in the application's code runs a statement again and again, by endpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from perfcore.collect.buffer import RequestContext

_SIGHTINGS_ASKED = 64  # of a text, a drain
_MAX_ASKED = 100  # drains in which a statement of an endpoint is asked for
_MAX_WANTED = 20  # statements asked for at a time
_MAX_TEXTS = 5  # of a statement
_MAX_KNOWN = 2_000
_MAX_WAITING = 2_000


class Places:
    """Asks the hooks for what is not known yet, and counts what they saw. In bounded memory.

    The place seen most often counts: a request that repeats a statement has it in many calls.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], str] = {}  # endpoint, fingerprint -> place
        self._wanted: dict[tuple[str, int], int] = {}  # and how often it may still be asked for
        self._waiting: list[tuple[RequestContext, int, str]] = []  # for the ends of the requests

    def of(self, endpoint: str, fp: int) -> str:
        """Return where an endpoint repeats a statement, empty while it is not known."""
        return self._known.get((endpoint, fp), "")

    def want(self, endpoint: str, fp: int) -> None:
        """Note that the endpoint repeats the statement."""
        key = endpoint, fp
        if key not in self._known and len(self._known) + len(self._wanted) < _MAX_KNOWN:
            self._wanted.setdefault(key, _MAX_ASKED)

    def ask(self, fingerprints: Mapping[Any, int]) -> dict[str, int]:
        """Return the texts to look out for, and how often."""
        asked: dict[int, int] = {}
        for key in islice([k for k, left in self._wanted.items() if left > 0], _MAX_WANTED):
            self._wanted[key] -= 1
            asked[key[1]] = _MAX_TEXTS
        texts: dict[str, int] = {}
        if asked:
            for text, fp in reversed(list(fingerprints.items())):
                if asked.get(fp, 0) > 0 and type(text) is str:
                    asked[fp] -= 1
                    texts[text] = _SIGHTINGS_ASKED
        return texts

    def learn(
        self, sightings: Iterable[tuple[RequestContext, str, str]], fingerprints: Mapping[Any, int]
    ) -> None:
        """Take what the hooks saw; it counts once its request has a name."""
        seen = [(c, fingerprints[t], place) for c, t, place in sightings if t in fingerprints]
        waiting = [*self._waiting, *seen]
        counts: dict[tuple[str, int], Counter[str]] = {}
        for context, fp, place in waiting:
            key = context.endpoint, fp
            if context.is_counted and key in self._wanted:
                counts.setdefault(key, Counter())[place] += 1
        for key, places in counts.items():
            self._known[key] = places.most_common(1)[0][0]
            del self._wanted[key]
        self._waiting = [w for w in waiting if not w[0].is_counted][-_MAX_WAITING:]
