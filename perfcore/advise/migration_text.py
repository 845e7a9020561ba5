"""A suggestion as a migration to paste: plain SQL, Alembic, Django.

What runs CONCURRENTLY must not run inside a transaction block, and neither must two such statements
sent as one text: the server makes one transaction of them. So each goes by itself.
"""

from __future__ import annotations

import re

import sqlglot
from sqlglot import TokenType
from sqlglot.errors import SqlglotError

from perfcore.types import Suggestion

# What a schema's migration does; all else (ANALYZE, VACUUM, ALTER SYSTEM) is done once, by hand.
_OF_A_SCHEMA = re.compile(
    r"(CREATE|DROP)\s+((UNIQUE\s+)?INDEX|STATISTICS|EXTENSION)\b|ALTER\s+(TABLE|INDEX)\b"
)
_NO_TRANSACTION = re.compile(r"\bCONCURRENTLY\b|^VACUUM\b|^ALTER\s+SYSTEM\b")


def statements_of(ddl: str) -> tuple[str, ...]:
    """Return the statements of a text without their semicolons.

    >>> statements_of("CREATE INDEX i ON t (a) WHERE b = ';'; ANALYZE t;")
    ("CREATE INDEX i ON t (a) WHERE b = ';'", 'ANALYZE t')
    """
    try:
        ends = [
            t.start
            for t in sqlglot.tokenize(ddl, read="postgres")
            if t.token_type is TokenType.SEMICOLON
        ]
    except SqlglotError:
        ends = []
    found, start = [], 0
    for end in (*ends, len(ddl)):
        if statement := ddl[start:end].strip():
            found.append(statement)
        start = end + 1
    return tuple(found)


def plain_sql(suggestion: Suggestion) -> str:
    """Return an SQL script with the way back as a comment at its end."""
    statements = statements_of(suggestion.ddl)
    if not statements:
        return ""
    lines = [f"-- {_one_line(suggestion.title)}"]
    if statements[0].startswith("SET LOCAL "):
        return "\n".join([*lines, *_around(statements)]) + "\n"
    if _is_outside(statements):
        lines.append("-- Run it outside a transaction block.")
    if any("CREATE" in s and "CONCURRENTLY" in s for s in statements):
        lines.append("-- If it fails, drop the invalid index that it leaves, and run it again.")
    lines += [f"{s};" for s in statements]
    if suggestion.undo:
        lines += ["", "-- To take it back:"]
        lines += [f"-- {line}" for s in statements_of(suggestion.undo) for line in _lines(s)]
    return "\n".join(lines) + "\n"


def alembic(suggestion: Suggestion) -> str:
    """Return an Alembic revision, empty where it is nothing for a migration."""
    statements = statements_of(suggestion.ddl)
    if not is_of_a_schema(suggestion):
        return ""
    return (
        f'"""{_quoted(suggestion.title)}"""\n\n'
        "import sqlalchemy as sa\nfrom alembic import op\n\n"
        f'revision = "{suggestion.suggestion_id[:12]}"\n'
        "down_revision = None  # the revision before this one\n"
        "branch_labels = None\n"
        "depends_on = None\n\n\n"
        "def upgrade() -> None:\n" + _alembic_body(statements) + "\n\n"
        "def downgrade() -> None:\n" + _alembic_body(statements_of(suggestion.undo))
    )


def django(suggestion: Suggestion) -> str:
    """Return a Django migration, empty where it is nothing for a migration."""
    statements, undo = statements_of(suggestion.ddl), statements_of(suggestion.undo)
    if not is_of_a_schema(suggestion):
        return ""
    atomic = "    atomic = False\n" if _is_outside((*statements, *undo)) else ""
    return (
        f'"""{_quoted(suggestion.title)}"""\n\n'
        "from django.db import migrations\n\n\n"
        "class Migration(migrations.Migration):\n"
        f"{atomic}"
        "    dependencies = []  # the app's last migration\n"
        "    operations = [\n"
        "        migrations.RunSQL(\n"
        f"{_django_list(statements)}"
        f"{_django_list(undo)}"
        "        ),\n"
        "    ]\n"
    )


def migration_texts(suggestion: Suggestion) -> dict[str, str]:
    """Return the texts by the name of their form, none when nothing is to be executed."""
    forms = {
        "SQL": plain_sql(suggestion),
        "Alembic": alembic(suggestion),
        "Django": django(suggestion),
    }
    return {name: text for name, text in forms.items() if text}


def is_of_a_schema(suggestion: Suggestion) -> bool:
    """Say whether it belongs into a migration: it changes what every copy of the schema has."""
    statements = statements_of(suggestion.ddl)
    return bool(statements) and all(_OF_A_SCHEMA.match(s) for s in statements)


def _is_outside(statements: tuple[str, ...]) -> bool:
    return any(_NO_TRANSACTION.search(s) for s in statements)


def _around(statements: tuple[str, ...]) -> list[str]:
    """Return what sets a value for one transaction; outside of one it would do nothing."""
    return ["BEGIN;", *(f"{s};" for s in statements), "-- the statement itself", "COMMIT;"]


def _alembic_body(statements: tuple[str, ...]) -> str:
    if not statements:
        return "    pass\n"
    is_outside = _is_outside(statements)
    indent = "        " if is_outside else "    "
    block = "    with op.get_context().autocommit_block():\n" if is_outside else ""
    return block + "".join(f"{indent}op.execute(sa.DDL({_text(s)}))\n" for s in statements)


def _django_list(statements: tuple[str, ...]) -> str:
    if not statements:
        return "            migrations.RunSQL.noop,\n"
    rows = "".join(f"                {s!r},\n" for s in statements)
    return f"            [\n{rows}            ],\n"


def _text(statement: str) -> str:
    """Return a Python literal for SQLAlchemy's DDL(), which formats percent signs."""
    return repr(statement.replace("%", "%%"))


def _quoted(title: str) -> str:
    return _one_line(title).replace("\\", "\\\\").replace('"""', "'''").rstrip('"')


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _lines(statement: str) -> list[str]:
    return f"{statement};".splitlines()
