"""The text of a statement as the parser takes it."""

from __future__ import annotations

import re

_PARAMETER = re.compile(r"(\$\d+)(?=[^\w\s])")


def spaced(statement: str) -> str:
    """Return the statement with a space after each parameter, so that sqlglot knows it for one.

    It takes `$1,$` for the beginning of a dollar-quoted string, which PostgreSQL never does:
    a tag begins with no digit.

    >>> spaced("SELECT * FROM t WHERE a IN ($1,$2)")
    'SELECT * FROM t WHERE a IN ($1 ,$2 )'
    """
    return _PARAMETER.sub(r"\1 ", statement)
