"""Comparing periods: what was there before, what is new, what is gone, what was zero."""

from __future__ import annotations

import pandas as pd

from perfcore.aggregate.compare import compare


def table(**rows: float) -> pd.DataFrame:
    """Return a table of endpoints with their time."""
    return pd.DataFrame(
        {"endpoint": list(rows), "p95_ms": list(rows.values())},
        columns=["endpoint", "p95_ms"],
    )


def test_change_and_ratio_have_the_sign_of_growth() -> None:
    found = compare(table(a=100.0, b=80.0), table(a=150.0, b=40.0), ["endpoint"], "p95_ms")
    assert found["p95_ms_before"].tolist() == [100.0, 80.0]
    assert found["change"].tolist() == [50.0, -40.0]
    assert found["change_ratio"].tolist() == [0.5, -0.5]


def test_new_and_zero_have_no_ratio_and_what_is_gone_is_left_out() -> None:
    before = table(zero=0.0, gone=5.0)
    found = compare(before, table(new=3.0, zero=7.0), ["endpoint"], "p95_ms")
    assert found["endpoint"].tolist() == ["new", "zero"]
    assert found["change"].isna().tolist() == [True, False]
    assert found["change_ratio"].isna().all()


def test_the_order_and_the_rows_of_now_are_kept() -> None:
    now = table(c=3.0, a=1.0, b=2.0)
    twice = pd.concat([table(a=5.0), table(a=6.0)])
    found = compare(twice, now, ["endpoint"], "p95_ms")
    assert found["endpoint"].tolist() == ["c", "a", "b"]
