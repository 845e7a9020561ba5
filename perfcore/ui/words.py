"""Numbers and names as people read them; user text made safe for markdown."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

from perfcore.gist import gist as gist
from perfcore.gist import one_line as one_line

NOTHING = "–"


def is_missing(value: float | None) -> bool:
    """Say whether a number is None or NaN."""
    return value is None or math.isnan(value)


def ms(value: float | None) -> str:
    """Return a duration with a fitting unit and about three digits.

    >>> ms(0.4213), ms(41.04), ms(1240), ms(None)
    ('0.42 ms', '41 ms', '1.24 s', '–')
    >>> ms(3_600_000)
    '60 min'
    """
    if value is None or math.isnan(value):
        return NOTHING
    size = abs(value)
    if size >= 7_200_000:
        return f"{_digits(value / 3_600_000)} h"
    if size >= 120_000:
        return f"{_digits(value / 60_000)} min"
    if size >= 1000:
        return f"{_digits(value / 1000)} s"
    return f"{_digits(value)} ms"


def byte_size(value: float | None) -> str:
    """Return a size in binary units.

    >>> byte_size(432_013_312), byte_size(12), byte_size(None)
    ('412 MiB', '12 B', '–')
    """
    if value is None or math.isnan(value):
        return NOTHING
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{_digits(value)} {unit}"
        value /= 1024
    return f"{_digits(value)} TiB"


def percent(ratio: float | None) -> str:
    """Return a ratio as a percentage.

    >>> percent(0.0049), percent(0.969), percent(0)
    ('0.49 %', '96.9 %', '0 %')
    """
    if ratio is None or math.isnan(ratio):
        return NOTHING
    value = ratio * 100
    if value and abs(value) < 1:
        return f"{value:.2f} %"
    return f"{value:.1f}".removesuffix(".0") + " %"


def count(value: float | None) -> str:
    """Return a number of things, shortened from ten thousand on.

    >>> count(900), count(76_432), count(2.5), count(1_200_000)
    ('900', '76.4 k', '2.5', '1.2 M')
    """
    if value is None or math.isnan(value):
        return NOTHING
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= limit:
            return _digits(value / (1000 if unit == " k" else limit)) + unit
    return f"{value:,.0f}" if abs(value) >= 100 else _digits(value)


def rate(value: float | None) -> str:
    """Return a rate per minute.

    >>> rate(900)
    '900 /min'
    """
    return NOTHING if is_missing(value) else f"{count(value)} /min"


def ago(at: datetime | None, now: datetime | None = None) -> str:
    """Return how long ago an instant was.

    >>> t = datetime(2026, 1, 1, tzinfo=UTC)
    >>> ago(t, datetime(2026, 1, 1, 0, 3, tzinfo=UTC)), ago(None)
    ('3 min ago', 'never')
    """
    if at is None:
        return "never"
    seconds = ((now or datetime.now(UTC)) - at).total_seconds()
    if seconds < 5:
        return "just now"
    for limit, length, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds / 86_400:.0f} days ago"


def server_version(number: int | None) -> str:
    """Return PostgreSQL's version as written by its makers.

    >>> server_version(180006), server_version(None)
    ('PostgreSQL 18.6', '–')
    """
    return f"PostgreSQL {number // 10000}.{number % 10000}" if number else NOTHING


def plain(text: str) -> str:
    """Escape text for markdown: whatever it holds is shown and nothing of it is obeyed.

    >>> print(plain(":red[x] *a* <b>"))
    \\:red\\[x\\] \\*a\\* \\<b\\>
    """
    unlinked = _ADDRESS.sub("\\g<0>\u2060", one_line(text))
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", unlinked)


# Addresses become links after escapes were taken off; an unseen joiner in them keeps them text.
_ADDRESS = re.compile(r"https?:(?=//)|www(?=\.)|(?<=\w)@(?=[-\w]+\.\w)", re.IGNORECASE)


def code(text: str) -> str:
    """Return the text as an inline code span that it cannot leave.

    >>> code("a `b` c")
    '`` a `b` c ``'
    """
    text = one_line(text) or " "
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {text} {fence}" if longest else f"`{text}`"


def change(now: float | None, before: float | None, unit: str, *, up_is_bad: bool | None) -> str:
    """Return a coloured difference in markdown, empty where there is nothing to compare.

    `unit` is "%" for a relative difference, "pp" for percentage points of a ratio.
    With `up_is_bad` None the direction is neither good nor bad.

    >>> change(120.0, 100.0, "%", up_is_bad=True)
    ':red[▲ 20 %]'
    >>> change(0.969, 0.97, "pp", up_is_bad=False)
    ':red[▼ 0.1 pp]'
    """
    if now is None or before is None or math.isnan(now) or math.isnan(before):
        return ""
    if unit == "pp":
        size, least = (now - before) * 100, 0.05
    else:
        if not before:
            return ""
        size, least = (now / before - 1) * 100, 0.5
    if abs(size) < least:
        return ":gray[= 0]"
    arrow = "▲" if size > 0 else "▼"
    colour = "gray" if up_is_bad is None else "red" if (size > 0) == up_is_bad else "green"
    return f":{colour}[{arrow} {_digits(abs(size))} {unit}]"


def _digits(value: float) -> str:
    size = abs(value)
    places = 0 if size >= 100 else 1 if size >= 10 else 2
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
