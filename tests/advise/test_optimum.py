"""The optimum against every subset, on a planner that really builds the indexes."""

from __future__ import annotations

from itertools import combinations

import pytest

from perfcore.advise.candidates import Candidate, propose
from perfcore.advise.costs import CostBook
from perfcore.advise.optimum import Optimum
from perfcore.advise.selection import Work, reserved_bytes, table_of
from perfcore.advise.statement import read_statement
from perfcore.advise.workload import Options, WriteRate, Writes
from tests.advise.conftest import Shop, statement

TEXTS = (
    "SELECT total FROM orders WHERE customer_id = 17",
    "SELECT id, note FROM orders WHERE customer_id = 17 ORDER BY created_at DESC LIMIT 5",
    "SELECT o.id FROM orders o JOIN order_items i ON i.order_id = o.id WHERE o.customer_id = 9",
    "SELECT quantity FROM order_items WHERE product_id = 77",
)


class _Case:
    def __init__(self, shop: Shop, budget_bytes: float, max_indexes: int = 100) -> None:
        self.options = Options(
            min_mean_ms=0,
            min_saved_ms_per_hour=1.0,
            floor_ms=0.0,
            time_limit_s=600,
            storage_budget_bytes=int(budget_bytes),
            max_indexes=max_indexes,
        )
        self.book = CostBook(shop.planner, 600)
        self.catalog = shop.catalog
        self.candidates: dict[str, Candidate] = {}
        self.all = self.candidates
        self.works = []
        for text in TEXTS:
            shape = read_statement(text, shop.catalog)
            for found in propose(shape, shop.catalog, min_table_rows=1_000).candidates[:4]:
                self.candidates[found.index.digest] = found
            cost = self.book.cost(text)
            assert cost is not None
            tables = frozenset(u.qualified_name for u in shape.uses)
            self.works.append(Work(statement(text), text, tables, cost))
        self.writes = Writes({"public.orders": WriteRate(inserts=5_000)})

    def chosen(self) -> tuple[str, ...]:
        self.all = dict(self.candidates)  # to which merged ones are added
        found = Optimum(
            self.book, self.works, self.all, self.writes, self.options, self.catalog
        ).select()
        assert not found.stopped_early and found.bound_ms_per_hour is not None
        assert found.saved_ms_per_hour <= found.bound_ms_per_hour * 1.0001
        return tuple(c.index.digest for c in found.chosen)

    def worth(self, digests: tuple[str, ...]) -> float:
        """Return what the set saves an hour, less what it costs; what is too little is nothing."""
        indexes = [self.all[d].index for d in digests]
        worth = -sum(self.writes.cost_ms_per_hour(i) + 1.0 for i in indexes)
        for work in self.works:
            cost = self.book.cost(work.text, [i for i in indexes if table_of(i) in work.tables])
            assert cost is not None
            if cost <= work.base_cost * (1 - self.options.min_gain):
                saved = work.statement.mean_exec_time_ms - work.mean_ms_at(cost, 0.0)
                worth += saved * work.statement.calls_per_hour
        return worth

    def bytes(self, digests: tuple[str, ...]) -> int:
        indexes = [self.all[d].index for d in digests]
        return sum(reserved_bytes(i, self.book.index_bytes(i) or 0, self.catalog) for i in indexes)

    def best(self, budget: float, most: int) -> float:
        return max(
            self.worth(subset)
            for size in range(most + 1)
            for subset in combinations(sorted(self.candidates), size)
            if self.bytes(subset) <= budget
        )


@pytest.mark.parametrize("budget_mb", [0.6, 1.5, 3.0, 50.0])
def test_no_subset_is_better(shop: Shop, budget_mb: float) -> None:
    case = _Case(shop, budget_mb * 1e6, 3)
    chosen = case.chosen()
    assert case.bytes(chosen) <= budget_mb * 1e6 and len(chosen) <= 3
    # Merged ones, which the subsets lack, may only make it better.
    assert case.worth(chosen) >= case.best(budget_mb * 1e6, 3) * 0.999


def test_writes_that_cost_more_than_is_saved_leave_nothing(shop: Shop) -> None:
    case = _Case(shop, 1e9)
    case.writes = Writes(
        {f"public.{t}": WriteRate(inserts=1e12) for t in ("orders", "order_items")}
    )
    assert case.chosen() == ()
