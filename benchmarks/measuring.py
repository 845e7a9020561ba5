"""What the benchmarks share: children that hold a variant each, quartiles, and tables."""

from __future__ import annotations

import contextlib
import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Any


class Child:
    """A process of its own, asked by lines of JSON: some tools patch whatever they find."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, **question: Any) -> Any:
        """Return the child's answer; RuntimeError when it has ended instead."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
        return self.read()

    def read(self) -> Any:
        """Return what the child says next; a tool may print something of its own."""
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError("the child has ended")

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()


def questions() -> Iterable[dict[str, Any]]:
    """Yield what the parent asks, in a child."""
    for line in sys.stdin:
        yield json.loads(line)


def answer(**content: Any) -> None:
    print(json.dumps(content), flush=True)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return (first quartile, median, third quartile)."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4)
    return low, middle, high


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a Markdown table."""
    lines = [[str(cell) for cell in row] for row in [titles, *rows]]
    widths = [max(len(line[n]) for line in lines) for n in range(len(titles))]
    lines.insert(1, ["-" * width for width in widths])
    for line in lines:
        cells = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        print("| " + " | ".join(cells) + " |")
    print()


def versions(*names: str) -> str:
    """Return "Python 3.11.2, starlette 1.10.0, ..." of what is installed."""
    found = [f"Python {platform.python_version()}"]
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found)
