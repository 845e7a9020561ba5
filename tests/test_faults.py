"""docs/faults.md and the tests agree: each fault has tests, and each `fault` mark has its row."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
TABLE = TESTS.parent / "docs" / "faults.md"
_ROW = re.compile(r"^\| (\d+) \| (.+?) \| (.+?) \|(.*)\|$", re.MULTILINE)
# What a file of tests is called in the table's last column.
_TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")


def test_each_fault_has_a_test_and_each_mark_a_row() -> None:
    rows = {int(m.group(1)): set(_TEST.findall(m.group(4))) for m in _rows(TABLE.read_text())}
    assert rows == marked(), "python -m tests.test_faults writes the table anew"


def marked() -> dict[int, set[tuple[str, str]]]:
    """Return the tests of each fault as (file below tests/, name), as their marks have it."""
    found: dict[int, set[tuple[str, str]]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        tree = ast.parse(path.read_text())
        everywhere = list(_numbers(_module_marks(tree)))
        for test in ast.walk(tree):
            if isinstance(test, (ast.FunctionDef, ast.AsyncFunctionDef)) and (
                test.name.startswith("test_")
            ):
                for number in [*_numbers(test.decorator_list), *everywhere]:
                    name = str(path.relative_to(TESTS))
                    found.setdefault(number, set()).add((name, test.name))
    return found


def _module_marks(tree: ast.Module) -> list[ast.expr]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            return node.value.elts if isinstance(node.value, ast.List) else [node.value]
    return []


def _numbers(marks: list[ast.expr]) -> Iterator[int]:
    for mark in marks:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault":
            yield from (ast.literal_eval(number) for number in mark.args)


def _rows(text: str) -> Iterator[re.Match[str]]:
    return _ROW.finditer(text)


def main() -> None:
    """Write the last column of docs/faults.md from the tests' marks."""
    tests = marked()

    def row(match: re.Match[str]) -> str:
        names = sorted(tests.get(int(match.group(1)), set()))
        shown = ", ".join(f"`{file}::{name}`" for file, name in names)
        return f"| {match.group(1)} | {match.group(2)} | {match.group(3)} | {shown} |"

    TABLE.write_text(_ROW.sub(row, TABLE.read_text()))
    unknown = sorted(tests.keys() - {int(m.group(1)) for m in _rows(TABLE.read_text())})
    if unknown:
        print(f"marked, but without a row: {unknown}")


if __name__ == "__main__":
    main()
