"""The reference stream: which reads ran with which parameters, for the replay of a cache.

A reference is kept or left out by the hash of its key (statement and parameters), so that all
references of a key that is kept are there, and hit rates come out right at any rate: spatial
sampling as in SHARDS (Waldspurger et al., "Efficient MRC Construction with SHARDS", FAST 2015).
Like its variant of fixed size, the rate falls when the keys of a statement are too many; here by
halves, and by statement. The keys read most when it falls are kept all the same, each standing for
itself alone: the misses of a short TTL are theirs. Writes are counted by statement, never sampled.

Values never leave the process: what is sent of them is 64 bits of BLAKE2b under a key that follows
from the store's DSN, the same in all processes of a service.
"""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from marshal import dumps
from typing import Any

from perfcore.collect.buffer import LARGE_CHARACTERS, UNATTRIBUTED, RequestContext
from perfcore.store.ingest import StreamChunk

VERSION = 1
UNHASHABLE = b""  # stands for parameters of which no key can be made
_MARSHAL = 2  # the last format that writes equal values alike, however often they are referred to
_MAX_WAITING_BYTES = 64  # of a key until the flusher takes it; what is longer is digested at once
_MAX_BYTES = 65_536
_MAX_ITEMS = 50
_AS_TEXT = ("datetime", "decimal", "uuid")

_MIN_MEAN_NS = 100_000  # what runs faster than this is not worth a cache's own round trip
_MAX_TEXTS = 500
_MAX_PENDING = 20_000
_FEW_KEYS = 8  # of a statement: that few are never sampled
_MAX_HOT_KEYS = 16  # of a statement: kept at any rate
_MAX_ALL_HOT_KEYS = 64
_HOT = 3  # executions in one flush
_SECOND_NS = 1_000_000_000
_LONGEST_S = 10.0
_LONGEST_WAIT_NS = 60 * _SECOND_NS
_RELAX_AFTER = 600  # flushes in which the rows fit with room to spare
_GIVEN_UP_AFTER = 50  # executions without a key
_READ = re.compile(r"\(*(select|with)\b", re.IGNORECASE)
_WRITE = re.compile(r"\b(insert\s+into|update|delete\s+from|merge\s+into)\b", re.IGNORECASE)
_LOCKS = re.compile(r"\bfor\s+(no\s+key\s+update|update|key\s+share|share)\b", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"%s|%b|%t|%\(|\$\d|\?|(?<!:):[A-Za-z_]")


def encoded(parameters: Any) -> bytes:
    """Return what tells an execution's parameters apart, UNHASHABLE where nothing does.

    Called on the application's path. Only values of Python's own types are read, so none of the
    application's code runs; it takes less than what the driver does to send them.
    """
    try:
        data = dumps(parameters, _MARSHAL)
    except ValueError:
        data = _encoded_by_value(parameters)
    if len(data) <= _MAX_WAITING_BYTES:
        return data
    return blake2b(data, digest_size=16).digest() if len(data) <= _MAX_BYTES else UNHASHABLE


def _encoded_by_value(parameters: Any) -> bytes:
    """Encode dates, decimals and UUIDs by their text."""
    values = list(parameters.values()) if type(parameters) is dict else parameters
    if type(values) not in (list, tuple) or len(values) > _MAX_ITEMS:
        return UNHASHABLE
    texts = [str(v) if type(v).__module__ in _AS_TEXT else v for v in values]
    try:
        return dumps(texts, _MARSHAL)
    except ValueError:
        return UNHASHABLE


class Followed:
    """A statement, as one text sends it, whose executions are part of the stream."""

    __slots__ = ("calls", "digest", "duration_ns", "fp", "is_keyed", "is_write", "without_key")

    def __init__(self, text: str, fp: int, *, is_write: bool) -> None:
        self.fp = fp
        self.is_write = is_write
        self.is_keyed = not is_write and _PLACEHOLDER.search(text) is not None
        self.digest = blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
        self.calls = self.duration_ns = self.without_key = 0

    def is_worth_it(self) -> bool:
        """Say whether a cache could save more than its own round trip takes."""
        return self.duration_ns >= _MIN_MEAN_NS * self.calls > 0

    def is_hashed(self) -> bool:
        """Say whether the hooks are to hash its parameters."""
        return self.is_keyed and self.without_key <= _GIVEN_UP_AFTER and self.is_worth_it()


def writes(normalised: str) -> bool | None:
    """Say whether a statement writes; None for what is neither a plain read nor a write.

    >>> writes("SELECT ? FOR UPDATE"), writes("WITH a AS (DELETE FROM t) SELECT ?")
    (None, True)
    """
    without_locks = _LOCKS.sub("", normalised)
    if _WRITE.search(without_locks):
        return True
    is_read = _READ.match(normalised) and without_locks == normalised
    return False if is_read else None


# A reference waits for the end of its request, and so for its endpoint's name.
_Pending = tuple[Followed, bytes, int, int, RequestContext | None]
# Fingerprint, endpoint, hash of statement and parameters, second of the monotonic clock.
_Place = tuple[int, str, int, int]


# Of one key in one second: when the first ended, how many there were, their time in ns.
_Sum = list[int]
_LEFT_OUT = -1


class Stream:
    """Gathers one process's references; used by the flusher thread alone, but for `hashed`."""

    def __init__(self, key: bytes, references_per_s: float) -> None:
        self._hasher = blake2b(digest_size=8, key=key)
        self._per_s = references_per_s
        self._saved = references_per_s
        self.follow: dict[str, Followed] = {}  # by the text as it was sent
        self.hashed: frozenset[str] = frozenset()  # texts whose parameters the hooks encode
        self._pending: list[_Pending] = []
        self._writes: dict[tuple[int, int], _Sum] = {}  # by fingerprint and second
        self._without_key: Counter[int] = Counter()  # by fingerprint
        self._late = 0  # executions for which there was no room to wait
        self._levels: dict[int, int] = {}  # by fingerprint: one key in 2 ** level is kept
        self._hot: dict[int, frozenset[int]] = {}  # by fingerprint: keys that are always kept
        self._easy_flushes = 0
        self._last_ns = 0

    def learn(self, text: str, fp: int, normalised: str) -> None:
        """Begin to follow a text, if it is a plain read or a write."""
        if self._per_s <= 0 or len(self.follow) >= _MAX_TEXTS or len(text) > LARGE_CHARACTERS:
            return
        is_write = writes(normalised)
        if is_write is not None:
            self.follow[text] = Followed(text, fp, is_write=is_write)

    def forget_texts(self) -> None:
        """Follow nothing any more: the texts are learnt anew."""
        self.follow = {}

    def take(
        self,
        followed: Followed,
        key: bytes | None,
        end_ns: int,
        duration_ns: int,
        context: RequestContext | None,
    ) -> None:
        """Note an execution that succeeded; `key` is None where the hook was not asked for it."""
        followed.calls += 1
        if followed.is_write:
            at = followed.fp, end_ns // _SECOND_NS
            self._writes.setdefault(at, [end_ns, 0, 0])[1] += 1
            return
        followed.duration_ns += duration_ns
        if followed.is_keyed and not key:
            if key is not None:
                followed.without_key += 1
                self._without_key[followed.fp] += 1
        elif not followed.is_worth_it():
            pass
        elif len(self._pending) < _MAX_PENDING:
            self._pending.append((followed, key or b"", end_ns, duration_ns, context))
        else:
            self._late += 1

    def chunk(
        self, now_ns: int, wall_ns: int, endpoint_of: Callable[[RequestContext], str]
    ) -> StreamChunk | None:
        """Return what is known since the last call; what belongs to open requests waits."""
        elapsed_s = (now_ns - self._last_ns) / 1e9 if self._last_ns else 0.0
        self._last_ns = now_ns
        if len(self.follow) >= _MAX_TEXTS:  # values are written into texts that never come again
            self.follow = {text: f for text, f in self.follow.items() if f.calls > 1}
        self.hashed = frozenset(t for t, f in self.follow.items() if f.is_hashed())
        self._saved = min(self._saved + elapsed_s * self._per_s, _LONGEST_S * self._per_s)
        calls: dict[int, int] = {}
        sums = self._settle(now_ns, endpoint_of, calls)
        if not (calls or self._writes or self._without_key or self._late):
            return None
        kept = self._sampled(sums)
        self._saved = max(self._saved - len(kept), 0.0)
        hot = (
            {key for fp, _, key, _ in kept if key in self._hot.get(fp, ())} if self._hot else set()
        )
        packed = _packed(
            wall_ns - now_ns,
            hot,
            kept,
            self._writes,
            calls,
            self._levels,
            self._without_key,
            self._late,
        )
        self._writes, self._without_key, self._late = {}, Counter(), 0
        return packed

    def _settle(
        self,
        now_ns: int,
        endpoint_of: Callable[[RequestContext], str],
        calls: dict[int, int],
    ) -> dict[_Place, _Sum]:
        """Add up the references whose endpoint is known, or will hardly ever be.

        `calls` takes how many there were of each statement, with those that are left out.
        """
        sums: dict[_Place, _Sum] = {}
        keys: dict[bytes, int] = {}
        waiting = []
        for item in self._pending:
            followed, data, end_ns, duration_ns, context = item
            endpoint = UNATTRIBUTED
            if context is not None:
                if context.is_counted:
                    endpoint = endpoint_of(context)
                elif now_ns - end_ns < _LONGEST_WAIT_NS:
                    waiting.append(item)
                    continue
            fp = followed.fp
            calls[fp] = calls.get(fp, 0) + 1
            data = followed.digest + data
            key = keys.get(data)
            if key is None:
                key = keys[data] = self._hash(fp, data)
            if key == _LEFT_OUT:
                continue
            place = fp, endpoint, key, end_ns // _SECOND_NS
            entry = sums.get(place)
            if entry is None:
                sums[place] = [end_ns, 1, duration_ns]
            else:
                entry[1] += 1
                entry[2] += duration_ns
        self._pending = waiting
        return sums

    def _hash(self, fp: int, data: bytes) -> int:
        """Return the key that is sent, or that it is left out at the rate of today."""
        hasher = self._hasher.copy()
        hasher.update(data)
        key = int.from_bytes(hasher.digest(), "big")
        return key if self._keeps(fp, key) else _LEFT_OUT

    def _sampled(self, sums: dict[_Place, _Sum]) -> dict[_Place, _Sum]:
        """Leave out keys until the rows fit, first of the statement that has most of them."""
        kept = sums
        self._relax(len(kept))
        while len(kept) > self._saved:
            pairs = {(place[0], place[2]) for place in kept}
            keys = Counter(fp for fp, key in pairs if key not in self._hot.get(fp, ()))
            fp, most = keys.most_common(1)[0] if keys else (0, 0)
            if most <= _FEW_KEYS:
                break
            if fp not in self._hot:
                self._hot[fp] = self._hottest(fp, kept)
            self._levels[fp] = self._levels.get(fp, 0) + 1
            kept = {p: entry for p, entry in kept.items() if p[0] != fp or self._keeps(fp, p[2])}
        return kept

    def _keeps(self, fp: int, key: int) -> bool:
        level = self._levels.get(fp, 0)
        return not level or key >> (64 - level) == 0 or key in self._hot.get(fp, ())

    def _hottest(self, fp: int, sums: Mapping[_Place, _Sum]) -> frozenset[int]:
        calls: Counter[int] = Counter()
        for place, entry in sums.items():
            if place[0] == fp:
                calls[place[2]] += entry[1]
        room = min(_MAX_HOT_KEYS, _MAX_ALL_HOT_KEYS - sum(map(len, self._hot.values())))
        return frozenset(key for key, n in calls.most_common(max(room, 0)) if n >= _HOT)

    def _relax(self, rows: int) -> None:
        """Keep more again after some minutes in which there was room for four times as much."""
        self._easy_flushes = self._easy_flushes + 1 if 4 * rows < self._per_s else 0
        if self._easy_flushes >= _RELAX_AFTER:
            self._easy_flushes = 0
            self._levels = {fp: level - 1 for fp, level in self._levels.items() if level > 1}


def _packed(
    offset_ns: int,
    hot: Iterable[int],
    kept: Mapping[_Place, _Sum],
    written: Mapping[tuple[int, int], _Sum],
    calls: Mapping[int, int],
    levels: Mapping[int, int],
    without_key: Mapping[int, int],
    late: int,
) -> StreamChunk:
    """Return it as compressed JSON, by columns; times are ms from the chunk's start.

    `offset_ns` is the wall clock less the monotonic one.
    """
    firsts = [entry[0] for entry in (*kept.values(), *written.values())]
    start_ns = min(firsts, default=0)
    fps = list(dict.fromkeys((*calls, *without_key)))
    endpoints = list({endpoint: None for _, endpoint, _, _ in kept})
    fp_at = {fp: n for n, fp in enumerate(fps)}
    endpoint_at = {endpoint: n for n, endpoint in enumerate(endpoints)}
    document = {
        "version": VERSION,
        "fingerprints": fps,
        "levels": [levels.get(fp, 0) for fp in fps],
        "calls": [calls.get(fp, 0) for fp in fps],
        "without_key": [without_key.get(fp, 0) for fp in fps],
        "late": late,
        "hot": list(hot),
        "endpoints": endpoints,
        "statement": [fp_at[fp] for fp, *_ in kept],
        "endpoint": [endpoint_at[endpoint] for _, endpoint, _, _ in kept],
        "key": [key for _, _, key, _ in kept],
        "at_ms": [(e[0] - start_ns) // 1_000_000 for e in kept.values()],
        "count": [e[1] for e in kept.values()],
        "duration_us": [e[2] // 1000 for e in kept.values()],
        "writes": [[fp, (e[0] - start_ns) // 1_000_000, e[1]] for (fp, _), e in written.items()],
    }
    content = zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 6)
    started_at = datetime.fromtimestamp((start_ns + offset_ns) / 1e9, UTC)
    return StreamChunk(started_at, len(kept), content)


def stream_key(store: str, service: str) -> bytes:
    """Return the key of a service's hashes: the same wherever its processes use one DSN."""
    return blake2b(f"{service}\0{store}".encode(), person=b"perfcore-stream").digest()
