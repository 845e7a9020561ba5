"""Names that the same advice keeps from round to round."""

from __future__ import annotations

import hashlib


def suggestion_id(target_id: int, kind: str, subject: str) -> str:
    """Return 16 hex digits that depend on the target and the action alone.

    >>> suggestion_id(1, "index", "a") == suggestion_id(1, "index", "a")
    True
    """
    return hashlib.sha256(f"{target_id}\0{kind}\0{subject}".encode()).hexdigest()[:16]
