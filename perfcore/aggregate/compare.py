"""Comparing a table with the same table of another period."""

from __future__ import annotations

import pandas as pd


def compare(before: pd.DataFrame, after: pd.DataFrame, key: list[str], value: str) -> pd.DataFrame:
    """Return the rows of `after`, in their order, with what `before` said of the same key.

    Adds `<value>_before`, `change` (after minus before) and `change_ratio` (change over
    before); nan where the key is new, and no ratio where it was 0.

    >>> a = pd.DataFrame({"name": ["x", "y"], "ms": [10.0, 5.0]})
    >>> b = pd.DataFrame({"name": ["x"], "ms": [8.0]})
    >>> compare(b, a, ["name"], "ms")["change_ratio"].tolist()
    [0.25, nan]
    """
    earlier = before[[*key, value]].drop_duplicates(key).rename(columns={value: f"{value}_before"})
    joined = after.merge(earlier, on=key, how="left", sort=False)
    was = joined[f"{value}_before"].astype("float64")
    change = joined[value].astype("float64") - was
    return joined.assign(
        **{f"{value}_before": was, "change": change, "change_ratio": change / was.where(was != 0)}
    )
