"""Imports go downward only, and what an application imports stays small."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "perfcore"

# Each part may import those named here, and the ground floor: the modules that lie
# directly in perfcore/ and import no part themselves.
ALLOWED: dict[str, set[str]] = {
    "store": set(),
    "collect": {"store"},
    "server": {"store"},
    "demo": {"collect", "server", "store"},
    "aggregate": {"store"},
    "api": {"store", "aggregate", "advise"},
    "whatif": {"server"},
    "advise": {"store", "whatif", "server"},
    "lab": {"store", "whatif", "server", "advise"},
    "ui": {"store", "aggregate", "advise", "whatif", "lab", "server", "charts", "plan_charts"},
}
HIGH_MODULES = {"charts", "plan_charts", "__main__"}


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{a.name}" for a in node.names if node.module == "perfcore"}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def _parts(path: Path) -> set[str]:
    modules = {m.split(".")[1] for m in _imports(path) if m.startswith("perfcore.")}
    return {m for m in modules if (PACKAGE / m).is_dir() or m in HIGH_MODULES}


@pytest.mark.parametrize("part", sorted(ALLOWED))
def test_a_part_imports_only_what_lies_below_it(part: str) -> None:
    wrong = {
        f"{path.relative_to(PACKAGE)} imports {other}"
        for path in (PACKAGE / part).rglob("*.py")
        for other in _parts(path) - {part} - ALLOWED[part]
    }
    assert not wrong


def test_every_part_has_its_rule() -> None:
    parts = {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists()}
    assert parts == set(ALLOWED)


def test_the_ground_floor_imports_no_part() -> None:
    wrong = {
        f"{path.name} imports {other}"
        for path in PACKAGE.glob("*.py")
        if path.stem not in HIGH_MODULES
        for other in _parts(path)
    }
    assert not wrong


@pytest.mark.parametrize("part", ["store", "aggregate", "advise", "whatif", "lab", "collect"])
def test_only_pages_know_streamlit(part: str) -> None:
    for path in (PACKAGE / part).rglob("*.py"):
        assert not {m for m in _imports(path) if m.split(".")[0] in {"streamlit", "plotly"}}, path


def test_an_application_loads_no_dashboard() -> None:
    code = (
        "import sys, perfcore.collect\n"
        "heavy = {'pandas', 'numpy', 'streamlit', 'plotly', 'sqlglot', "
        "'sqlalchemy', 'django'} & set(sys.modules)\n"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
