"""`perfcore doctor`: what each target still needs, and the setup.sql that gives it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from perfcore.codec import to_json
from perfcore.collect.readiness import Check, Readiness
from perfcore.target import SETUP, shown

ALL_WELL, UNREACHABLE, MISSING = 0, 1, 10
_MARKS = {"ok": "ok", "missing": "MISSING", "note": "note"}
_LABEL_WIDTH = 9


def setup_sql(target: tuple[str, str] | None = None) -> str:
    """Return the script that prepares a server; with a (name, DSN), how to run it there."""
    script = SETUP.read_text(encoding="utf-8")
    if target is None:
        return script
    name, dsn = target
    place = shown(dsn).rpartition("@")[2]
    host, _, rest = place.rpartition(":")
    port, _, database = rest.partition("/")
    command = f"psql -v ON_ERROR_STOP=1 -h {host} -p {port} -d {database} -U postgres -f setup.sql"
    return f"-- For the target {name}:\n--   {command}\n--\n{script}"


def exit_code(found: Sequence[Readiness]) -> int:
    """Return 1 where a target cannot be reached, 10 where one lacks something, else 0."""
    if any(not r.is_reachable for r in found):
        return UNREACHABLE
    return MISSING if any(r.missing for r in found) else ALL_WELL


def render(found: Sequence[Readiness]) -> str:
    """Return the findings as text: what is well in a line, what is missing with its remedy."""
    return "\n\n".join(_target(readiness) for readiness in found)


def document(found: Sequence[Readiness]) -> list[object]:
    """Return the findings as JSON."""
    return [to_json(readiness) for readiness in found]


def _target(readiness: Readiness) -> str:
    version = readiness.server_version or "cannot be reached"
    lines = [f"{readiness.target} ({readiness.place}): {version}"]
    lines += [_check(check) for check in readiness.checks if check.state != "ok"]
    well = [check.name for check in readiness.checks if check.state == "ok"]
    if well:
        lines.append(_paragraph("ok", ", ".join(well)))
    missing = len(readiness.missing)
    if readiness.is_reachable:
        lines.append(f"  {missing or 'nothing'} missing")
    return "\n".join(lines)


def _check(check: Check) -> str:
    lines = [_paragraph(_MARKS[check.state], f"{check.name}: {check.finding}")]
    if check.cost:
        lines.append(_paragraph("", f"costs: {check.cost}"))
    remedy = check.remedy.splitlines()
    if check.needs_restart:
        remedy.append("-- and restart the server")
    indent = " " * (_LABEL_WIDTH + 6)
    return "\n".join([*lines, *(f"{indent}{line}" for line in remedy)])


def _paragraph(label: str, text: str) -> str:
    indent = " " * (_LABEL_WIDTH + 2)
    first = f"  {label:<{_LABEL_WIDTH}}"
    return textwrap.fill(
        text, 98, initial_indent=first, subsequent_indent=indent, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
