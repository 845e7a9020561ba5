"""Sizes of indexes in words, in the units that a budget is given in."""

from __future__ import annotations


def decimal_size(size_bytes: float) -> str:
    """Return a size in MB of a million bytes, as `--budget-mb` counts them, or in kB.

    Settings are told in PostgreSQL's binary units instead (`upkeep.size_words`).

    >>> decimal_size(34_000), decimal_size(12_345_678)
    ('34 kB', '12.3 MB')
    """
    return f"{size_bytes / 1e6:,.1f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:,.0f} kB"
