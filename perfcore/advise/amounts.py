"""Sizes in words."""

from __future__ import annotations


def size_words(size_bytes: float) -> str:
    """Return a size as it is read most easily.

    >>> size_words(34_000), size_words(12_345_678)
    ('34 kB', '12.3 MB')
    """
    return f"{size_bytes / 1e6:,.1f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:,.0f} kB"
