"""How far the what-if engines agree with PostgreSQL itself, over indexes of every kind.

    python benchmarks/agreement.py [--rows 100000] [--only NAME] [--majors 18 15]

Each case builds its real index on a target with real rows and asks for the plan; the twin, and
HypoPG where the target has it, had to promise that plan without the index. A ratio is the promised
cost by the real one; sizes are our estimates by the real bytes.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from measuring import table

from perfcore.db import connect
from perfcore.errors import PerfcoreError
from perfcore.plan import Plan
from perfcore.server.embedded import Cluster, system_binaries, wheel_binaries
from perfcore.whatif.explain import alike
from perfcore.whatif.hypopg import HypoPG
from perfcore.whatif.planner import Planner
from perfcore.whatif.twin import Twin
from tests.whatif.agreement import CASES, Case, create, promised, real

_SETTINGS = {"autovacuum": "off", "jit": "off", "shared_buffers": "64MB"}
_DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
_CLOSE = 0.02


@dataclass(frozen=True, slots=True)
class Row:
    """What came out of one case."""

    case: Case
    base: str  # the twin by the target, before
    cost: float
    twin: str
    hypopg: str
    size: str
    is_close: bool
    plans: tuple[Plan, ...] = ()


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table for each major version."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--only", default="", help="cases whose name has this, with their plans")
    parser.add_argument("--majors", type=int, nargs="+", default=[18, 15])
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="perfcore-agreement-"))
    folder.chmod(0o755)
    try:
        for major in options.majors:
            _measure(major, folder, options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measure(major: int, folder: Path, options: argparse.Namespace) -> None:
    binaries = wheel_binaries(folder) if major == 18 else system_binaries(_DEBIAN_15)
    began = time.monotonic()
    with Cluster(folder / str(major), binaries, _SETTINGS, durable=False) as cluster:
        with connect(cluster.dsn(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE shop")
        dsn = cluster.dsn("shop")
        with connect(dsn, autocommit=True) as connection:
            create(connection, options.rows)
        with Twin.build(dsn, folder / "data") as twin:
            hypopg = HypoPG(dsn) if major < 18 else None
            cases = [c for c in CASES if c.since <= major and options.only in c.name]
            rows = [_compare(dsn, case, twin, hypopg) for case in cases]
            _report(major, options, rows, twin)
            if hypopg is not None:
                hypopg.close()
    print(f"{len(rows)} cases in {time.monotonic() - began:.0f} s.\n")


def _compare(dsn: str, case: Case, twin: Twin, hypopg: HypoPG | None) -> Row:
    with connect(dsn, autocommit=True) as connection:
        with real(connection, Case("", case.statement, (), case.parameters)) as (before, _):
            pass
        base = _ratio(twin, Case("", case.statement, (), case.parameters), before)
        with real(connection, case) as (plan, size_bytes):
            pass
    size = "" if not size_bytes else f"{_bytes(twin, case) / size_bytes:.2f}"
    answer = _ratio(twin, case, plan)
    close = answer.endswith("same") and abs(float(answer.split()[0]) - 1) <= _CLOSE
    asked = "" if hypopg is None else _ratio(hypopg, case, plan)
    promise = promised(twin, case) if answer[:1].isdigit() else plan
    return Row(case, base, plan.total_cost, answer, asked, size, close, (plan, promise))


def _ratio(planner: Planner, case: Case, real_plan: Plan) -> str:
    """Return "1.003 same", "0.8 other" for another plan, or that there is no answer."""
    try:
        plan = promised(planner, case)
    except PerfcoreError as error:
        return "cannot" if planner.name == "hypopg" else f"refused: {error}"
    shape = "same" if alike(plan, real_plan) else "other"
    return f"{plan.total_cost / max(real_plan.total_cost, 0.01):.3f} {shape}"


def _bytes(twin: Twin, case: Case) -> int:
    return sum(twin.index_bytes(index) for index in case.definitions)


def _report(major: int, options: argparse.Namespace, rows: Sequence[Row], twin: Twin) -> None:
    print(f"PostgreSQL {major}, tables of {options.rows:,} rows\n")
    titles = ["case", "before", "real cost", "twin", "HypoPG", "our size"]
    lines = [[r.case.name, r.base, f"{r.cost:,.1f}", r.twin, r.hypopg, r.size] for r in rows]
    keep = [n for n in range(len(titles)) if n != 4 or any(r.hypopg for r in rows)]
    table([titles[n] for n in keep], [[line[n] for n in keep] for line in lines])
    close = sum(r.is_close for r in rows)
    same = sum(r.twin.endswith("same") for r in rows)
    print(f"The twin: the same plan in {same} of {len(rows)}, and at a cost within 2 % in {close}.")
    asked = [r.hypopg for r in rows if r.hypopg]
    if asked:
        answered = [a for a in asked if a[:1].isdigit()]
        good = sum(a.endswith("same") for a in answered)
        near = sum(a.endswith("same") and abs(float(a.split()[0]) - 1) <= _CLOSE for a in answered)
        print(
            f"HypoPG: answered {len(answered)} of {len(asked)}, the same plan in {good}, "
            f"within 2 % in {near}."
        )
    print(f"Not taken over: {'; '.join(twin.skipped) or 'nothing'}.")
    if options.only:
        for row in rows:
            for plan in row.plans:
                print(plan.to_text(), "\n")


if __name__ == "__main__":
    main()
