"""Texts and numbers cut to the room that a figure has for them."""

from __future__ import annotations

_NARROW = set(" .,:;'|!ijl()[]`")
_SLIM = set('frtI/\\"-*')
_WIDE = set("mwMW%@&→▲▼…×")


def width(text: str, size: float) -> float:
    """Return about how many px a text takes in the interface's typeface, rather too many."""
    ems = 0.0
    for letter in text:
        if letter in _NARROW:
            ems += 0.27
        elif letter in _SLIM:
            ems += 0.36
        elif letter in _WIDE:
            ems += 0.84
        elif letter.isupper():
            ems += 0.61
        else:
            ems += 0.515 if ord(letter) < 0x2E80 else 1.0
    return ems * size


def fit(text: str, room: float, size: float, *, middle: bool = True) -> str:
    """Return the text on one line, shortened to about `room` px; names lose their middle.

    >>> fit("orders_customer_id_status_created_at_idx", 120, 12)
    'orders_cu…ed_at_idx'
    """
    text = plain(text)
    if width(text, size) <= room:
        return text
    keep = len(text)
    while keep > 4 and width(text[:keep], size) > room - 0.84 * size:
        keep -= 1
    if not middle:
        return text[:keep].rstrip() + "…"
    half = keep // 2
    return f"{text[: keep - half]}…{text[-half:]}"


def plain(text: str) -> str:
    """Return the text on one line, without control characters and what turns its direction."""
    return " ".join("".join(c if c.isprintable() or c.isspace() else "·" for c in text).split())


def unwrapped(condition: str) -> str:
    """Return a condition without the parentheses around the whole of it.

    >>> unwrapped("((a = 1) AND (b = 2))"), unwrapped("(a = 1) OR (b = 2)")
    ('(a = 1) AND (b = 2)', '(a = 1) OR (b = 2)')
    """
    while condition[:1] == "(" and condition[-1:] == ")":
        depth = 0
        for letter in condition[:-1]:
            depth += (letter == "(") - (letter == ")")
            if depth == 0:
                return condition
        condition = condition[1:-1]
    return condition


def ms(value: float) -> str:
    """Return a duration.

    >>> ms(12_400), ms(373.6), ms(5.44), ms(0.125), ms(0.001), ms(0)
    ('12.4 s', '374 ms', '5.4 ms', '0.12 ms', '< 0.01 ms', '0 ms')
    """
    if value >= 10_000:
        return f"{value / 1000:,.1f} s"
    if 0 < value < 0.01:
        return "< 0.01 ms"
    places = 0 if value >= 100 or not value else 1 if value >= 1 else 2
    return f"{value:,.{places}f} ms"


def amount(value: float) -> str:
    """Return a number of rows or a cost, shortened from ten million on.

    >>> amount(59700), amount(1.33), amount(12_000_000), amount(3.0)
    ('59,700', '1.3', '12.0 M', '3')
    """
    if value >= 1e10:
        return f"{value / 1e9:,.1f} G"
    if value >= 1e7:
        return f"{value / 1e6:,.1f} M"
    text = f"{value:,.1f}" if value < 100 else f"{value:,.0f}"
    return text.removesuffix(".0")


def percent(part: float) -> str:
    value = 100 * part
    if 0 < value < 0.1:
        return "< 0.1 %"
    return f"{value:.1f} %" if value < 1 and value else f"{value:.0f} %"


def kb(kilobytes: float) -> str:
    if kilobytes >= 1024 * 1024:
        return f"{kilobytes / 1024 / 1024:,.1f} GiB"
    return f"{kilobytes / 1024:,.1f} MiB" if kilobytes >= 1024 else f"{kilobytes:,.0f} kiB"
