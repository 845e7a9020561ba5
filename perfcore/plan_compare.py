"""What differs between two plans of a statement, node by node and in words."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from perfcore import plan_words
from perfcore.plan import Plan, PlanNode

# Estimates of the same step that differ by less are called equal.
_ESTIMATES_DIFFER = 2.0


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not the same, with the places in `walk()` of the nodes it concerns."""

    kind: str  # "access", "join", "order", "step", "condition", "gone", "new", "estimate"
    before: int | None
    after: int | None
    summary: str  # one sentence


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two plans, the pairs of nodes that do the same work, and what differs."""

    pairs: tuple[tuple[int, int], ...]
    differences: tuple[Difference, ...]
    cost_before: float
    cost_after: float
    ms_before: float | None  # None where either was not executed
    ms_after: float | None

    @property
    def is_same_shape(self) -> bool:
        """Say whether both do the same steps, whatever their estimates."""
        return all(d.kind == "estimate" for d in self.differences)


@dataclass(frozen=True, slots=True)
class _Step:
    place: int
    node: PlanNode
    reads: frozenset[str]  # what is read in it and below it, by alias


def compare_plans(before: Plan, after: Plan) -> Comparison:
    """Return what `after` does otherwise than `before`, what matters most first.

    Nodes are paired that read the same relation, then joins of the same relations, then steps
    of the same kind above the same relations.
    """
    old, new = _steps(before), _steps(after)
    pairs = _paired(old, new)
    found = [d for one, other in pairs for d in _changed(one, other)]
    found += _join_order(old, new)
    found += _alone(old, [o for o, _ in pairs], new, [n for _, n in pairs])
    found.sort(key=lambda d: _WEIGHT[d.kind])
    both = before.root.total_ms is not None and after.root.total_ms is not None
    return Comparison(
        tuple((o.place, n.place) for o, n in pairs),
        tuple(found),
        before.total_cost,
        after.total_cost,
        _whole_ms(before) if both else None,
        _whole_ms(after) if both else None,
    )


_WEIGHT = {
    kind: n
    for n, kind in enumerate(
        ("access", "order", "join", "condition", "step", "gone", "new", "estimate")
    )
}
_JOINS = ("Nested Loop", "Hash Join", "Merge Join")
# Parts of the step above them, told with it.
_PARTS = ("Hash", "Bitmap Index Scan", "Materialize")


def _whole_ms(plan: Plan) -> float | None:
    return plan.execution_ms if plan.execution_ms is not None else plan.root.total_ms


def _steps(plan: Plan) -> list[_Step]:
    walked = list(plan.root.walk())
    reads: list[set[str]] = [set() for _ in walked]
    trail: list[int] = []
    for place, (depth, node) in enumerate(walked):
        del trail[depth:]
        trail.append(place)
        if name := _read_by(node):
            for above in trail:
                reads[above].add(name)
    return [_Step(n, node, frozenset(reads[n])) for n, (_, node) in enumerate(walked)]


def _read_by(node: PlanNode) -> str:
    """Return what a scan reads, as the statement calls it; empty for other nodes."""
    if node.node_type in ("Bitmap Index Scan", "ModifyTable"):
        return ""
    return node.alias or node.relation or node.cte_name


def _paired(old: list[_Step], new: list[_Step]) -> list[tuple[_Step, _Step]]:
    pairs: list[tuple[_Step, _Step]] = []
    for key in (_scan_key, _join_key, _same_key, _kind_key):
        pairs += _matches(old, new, key, pairs)
    return sorted(pairs, key=lambda pair: pair[1].place)


def _matches(
    old: list[_Step],
    new: list[_Step],
    key: Callable[[_Step], Hashable],
    taken: list[tuple[_Step, _Step]],
) -> list[tuple[_Step, _Step]]:
    """Return pairs of steps not yet taken that have the same key, in their order."""
    used_old, used_new = {o.place for o, _ in taken}, {n.place for _, n in taken}
    waiting: dict[Hashable, list[_Step]] = defaultdict(list)
    for step in new:
        if step.place not in used_new and key(step) is not None:
            waiting[key(step)].append(step)
    found = []
    for step in old:
        if step.place not in used_old and (fitting := waiting.get(key(step))):
            found.append((step, fitting.pop(0)))
    return found


def _scan_key(step: _Step) -> Hashable:
    name = _read_by(step.node)
    return (name, step.node.relation or step.node.cte_name) if name else None


def _join_key(step: _Step) -> Hashable:
    return step.reads if step.node.node_type in _JOINS else None


def _same_key(step: _Step) -> Hashable:
    return _plain_kind(step.node), step.reads, step.node.index


def _kind_key(step: _Step) -> Hashable:
    """Return what pairs an aggregate with one of another strategy, a sort with one elsewhere."""
    is_lone = step.node.node_type in _PARTS or _read_by(step.node)
    return None if is_lone else _plain_kind(step.node)


def _plain_kind(node: PlanNode) -> str:
    kind = node.node_type
    return {"Incremental Sort": "Sort", "Gather Merge": "Gather", "Group": "Aggregate"}.get(
        kind, kind
    )


def _changed(one: _Step, other: _Step) -> list[Difference]:
    """Return how a step does its work otherwise, or what else is expected of it."""
    before, after = one.node, other.node

    def differs(kind: str, summary: str) -> list[Difference]:
        return [Difference(kind, one.place, other.place, summary)]

    if _read_by(before) and _way(before) != _way(after):
        words = f"{_scan_words(before)} became {_scan_words(after)}"
        return differs("access", words + _figures(before, after))
    if plan_words.title(before) != plan_words.title(after):
        if before.node_type in _JOINS:
            what = _listed(one.reads)
            words = f"{plan_words.title(before)} of {what} became {plan_words.title(after)}"
            return differs("join", words + _figures(before, after))
        words = f"{plan_words.title(before)} became {plan_words.title(after)}"
        return differs("step", words + _figures(before, after))
    if moved := _moved_condition(before, after):
        return differs("condition", moved)
    if _far_apart(before.plan_rows, after.plan_rows):
        return differs(
            "estimate",
            f"{before.plan_rows:,.0f} rows were expected of {plan_words.phrase(before)}, now "
            f"{after.plan_rows:,.0f}",
        )
    return []


def _figures(before: PlanNode, after: PlanNode) -> str:
    """Return what the step and all below it took, by the clock where both were executed."""
    if before.total_ms is not None and after.total_ms is not None:
        return f"; {before.total_ms:,.4g} ms → {after.total_ms:,.4g} ms"
    return f"; cost {before.total_cost:,.0f} → {after.total_cost:,.0f}"


def _way(node: PlanNode) -> tuple[str, tuple[str, ...]]:
    return plan_words.title(node), _indexes(node)


def _indexes(node: PlanNode) -> tuple[str, ...]:
    """Return the indexes that a scan uses, those of a bitmap scan's parts among them."""
    if node.node_type != "Bitmap Heap Scan":
        return (node.index,) if node.index else ()
    below = [n for _, n in node.walk() if n.node_type == "Bitmap Index Scan"]
    return tuple(sorted({n.index for n in below}))


def _scan_words(node: PlanNode) -> str:
    words = plan_words.title(node)
    if indexes := _indexes(node):
        words += f" using {_listed(indexes)}"
    return f"{words} on {node.relation or _read_by(node)}"


_SEARCHES = ("Index Cond", "Filter", "Hash Cond", "Merge Cond", "Join Filter", "Sort Key")


def _moved_condition(before: PlanNode, after: PlanNode) -> str:
    for name in _SEARCHES:
        old, new = before.condition(name), after.condition(name)
        if _gist(old) != _gist(new):
            what = plan_words.phrase(after)
            if old and new:
                return f"{name} of {what} was {old}, now {new}"
            return f"{what} has {'no' if old else 'a'} {name}" + (
                f" any more, it was {old}" if old else f" now: {new}"
            )
    return ""


_VALUE = re.compile(
    r"""'(?:[^']|'')*'(?:::[\w ."]+(?:\[\])?)? | \(InitPlan\ \d+\)\.col\d+ | \$\d+
        | (?<![\w.])-?\d+(?:\.\d+)?(?:::[\w ]+)?""",
    re.VERBOSE,
)


def _gist(condition: str) -> tuple[str, ...]:
    """Return a condition without its values, and with "a = b" the same as "b = a".

    >>> _gist("(a.id = b.id)") == _gist("(b.id = a.id)"), _gist("(x > 5)") == _gist("(x > $1)")
    (True, True)
    """
    return tuple(sorted(re.findall(r"[^\s()]+", _VALUE.sub("?", condition))))


def _far_apart(one: float, other: float) -> bool:
    low, high = sorted((max(1.0, one), max(1.0, other)))
    return high / low >= _ESTIMATES_DIFFER


def _join_order(old: list[_Step], new: list[_Step]) -> list[Difference]:
    """Return that relations are joined in another order, where the groups joined differ."""
    if old[0].reads != new[0].reads:
        return []
    before = [s for s in old if s.node.node_type in _JOINS]
    after = [s for s in new if s.node.node_type in _JOINS]
    first_old, first_new = _first_other(before, after), _first_other(after, before)
    if first_old is None or first_new is None:
        return []
    return [
        Difference(
            "order", first_old.place, first_new.place,
            f"the joins are in another order: {_listed(first_old.reads)} were joined first, now "
            f"{_listed(first_new.reads)}",
        )
    ]  # fmt: skip


def _first_other(joins: list[_Step], others: list[_Step]) -> _Step | None:
    """Return the smallest join of relations that the other plan does not join by themselves."""
    known = {s.reads for s in others}
    odd = [s for s in joins if s.reads not in known]
    return min(odd, key=lambda s: (len(s.reads), s.place), default=None)


def _alone(
    old: list[_Step], paired_old: list[_Step], new: list[_Step], paired_new: list[_Step]
) -> list[Difference]:
    """Return the steps that only one of the plans has."""
    kept, known = {s.place for s in paired_old}, {s.place for s in paired_new}
    gone = [
        Difference("gone", s.place, None, f"{_step_words(s.node)} is gone")
        for s in old
        if s.place not in kept and s.node.node_type not in _PARTS
    ]
    return gone + [
        Difference("new", None, s.place, f"{_step_words(s.node)} is new")
        for s in new
        if s.place not in known and s.node.node_type not in _PARTS
    ]


def _step_words(node: PlanNode) -> str:
    keys = node.condition("Sort Key") or node.condition("Group Key")
    return plan_words.phrase(node) + (f" by {keys}" if keys else "")


def _listed(names: frozenset[str] | tuple[str, ...]) -> str:
    """Return names as people list them.

    >>> _listed(("a",)), _listed(("a", "b", "c"))
    ('a', 'a, b and c')
    """
    first, last = sorted(names)[:-1], sorted(names)[-1:]
    return f"{', '.join(first)} and {last[0]}" if first else "".join(last)
