"""A suggestion as a migration to paste: plain SQL, Alembic, Django."""

from __future__ import annotations

from perfcore.types import Suggestion


def plain_sql(suggestion: Suggestion) -> str:
    """Return an SQL script; CREATE INDEX CONCURRENTLY must run outside a transaction."""
    if not suggestion.ddl:
        return ""
    lines = [f"-- {suggestion.title}"]
    if "CONCURRENTLY" in suggestion.ddl:
        lines.append("-- Run it outside a transaction block.")
    lines.append(f"{suggestion.ddl};")
    if suggestion.undo:
        lines += ["", "-- To take it back:", f"-- {suggestion.undo};"]
    return "\n".join(lines) + "\n"


def alembic(suggestion: Suggestion) -> str:
    """Return the body of an Alembic revision."""
    if not suggestion.ddl:
        return ""
    return (
        f'"""{_quoted(suggestion.title)}"""\n\n'
        "import sqlalchemy as sa\nfrom alembic import op\n\n\n"
        "def upgrade() -> None:\n"
        "    with op.get_context().autocommit_block():\n"
        f"        op.execute(sa.DDL({_text(suggestion.ddl)}))\n\n\n"
        "def downgrade() -> None:\n" + _alembic_undo(suggestion.undo)
    )


def _alembic_undo(undo: str) -> str:
    if not undo:
        return "    pass\n"
    block = "    with op.get_context().autocommit_block():\n"
    return f"{block}        op.execute(sa.DDL({_text(undo)}))\n"


def django(suggestion: Suggestion) -> str:
    """Return a Django migration; `atomic = False` because of CONCURRENTLY."""
    if not suggestion.ddl:
        return ""
    reverse = repr(suggestion.undo) if suggestion.undo else "migrations.RunSQL.noop"
    return (
        f'"""{_quoted(suggestion.title)}"""\n\n'
        "from django.db import migrations\n\n\n"
        "class Migration(migrations.Migration):\n"
        "    atomic = False\n"
        "    dependencies = []  # the app's last migration\n"
        "    operations = [\n"
        "        migrations.RunSQL(\n"
        f"            {suggestion.ddl!r},\n"
        f"            {reverse},\n"
        "        ),\n"
        "    ]\n"
    )


def migration_texts(suggestion: Suggestion) -> dict[str, str]:
    """Return the texts by the name of their form, none when nothing is to be executed."""
    if not suggestion.ddl:
        return {}
    return {
        "SQL": plain_sql(suggestion),
        "Alembic": alembic(suggestion),
        "Django": django(suggestion),
    }


def _text(statement: str) -> str:
    """Return a Python literal for SQLAlchemy's DDL(), which formats percent signs."""
    return repr(statement.replace("%", "%%"))


def _quoted(title: str) -> str:
    return title.replace("\\", "\\\\").replace('"""', "'''").rstrip('"')
