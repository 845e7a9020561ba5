"""Two ranges side by side."""

from __future__ import annotations

import pandas as pd


def compare(before: pd.DataFrame, after: pd.DataFrame, key: list[str], value: str) -> pd.DataFrame:
    """Return `after` with `<value>_before`, `change` and `change_ratio` of each key.

    The change is after minus before in the value's unit, the ratio that change divided by
    before; both are nan for what was not there before, or was zero.
    """
    known = before[[*key, value]].rename(columns={value: f"{value}_before"})
    table = after.merge(known, on=key, how="left")
    earlier = table[f"{value}_before"].astype("float64")
    table["change"] = table[value].astype("float64") - earlier
    table["change_ratio"] = (table["change"] / earlier).where(earlier != 0)
    return table
