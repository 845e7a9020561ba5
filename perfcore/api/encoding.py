"""From values to JSON that every client reads exactly."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any
from uuid import UUID

import pandas as pd

from perfcore.normalise import fingerprint_hex


def encode(body: Any) -> bytes:
    """Return the JSON of a body of records, tables' values and dataclasses, as UTF-8."""
    content = json.dumps(_plain(body), allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return content.encode("utf-8", "replace")


def _plain(value: Any, name: str = "") -> Any:
    """Return the value in JSON's types: no NaN or infinity, instants in UTC, big ids as text."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v, str(k)) for k, v in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return _plain({f.name: getattr(value, f.name) for f in fields(value)})
    if isinstance(value, list | tuple):
        return [_plain(v, name) for v in value]
    if isinstance(value, Enum):
        return value.value
    if value is None or value is pd.NA or value is pd.NaT or isinstance(value, str | bool):
        return None if value is pd.NA or value is pd.NaT else value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, UUID):
        return str(value)
    return _plain_number(value, name)


def _plain_number(value: Any, name: str) -> Any:
    if name in ("queryid", "queryids"):
        return str(int(value))
    if name in ("fingerprint", "fingerprints"):
        return fingerprint_hex(int(value))
    if isinstance(value, int):
        return value
    number = float(value)
    return number if math.isfinite(number) else None
