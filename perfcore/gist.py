"""A statement on one line, as lists and sentences name it."""

from __future__ import annotations

_LONG_LIST = 24


def one_line(text: str, width: int = 0) -> str:
    """Return the text on one line, cut to `width` characters where that is given.

    >>> one_line("SELECT 1\\n  FROM t", 10)
    'SELECT 1…'
    """
    text = " ".join(text.split())
    return text if not width or len(text) <= width else text[: width - 1].rstrip() + "…"


def gist(text: str, width: int = 300) -> str:
    """Return a statement on one line with a long select list left out: its tables tell more.

    >>> gist("SELECT id, title, price_cents, (SELECT max(x) FROM y) FROM products WHERE a = $1")
    'SELECT … FROM products WHERE a = $1'
    >>> gist("SELECT * FROM t")
    'SELECT * FROM t'
    """
    text = one_line(text)
    if text[:7].upper() == "SELECT ":
        depth = 0
        for at, letter in enumerate(text):
            depth += (letter == "(") - (letter == ")")
            if depth == 0 and letter == " " and text[at : at + 6].upper() == " FROM ":
                text = f"SELECT …{text[at:]}" if at > _LONG_LIST else text
                break
    return one_line(text, width)
