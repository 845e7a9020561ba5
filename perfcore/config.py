"""Settings: one table from which the program, the README and the tests are made."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from perfcore.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Setting:
    """One environment variable: its name, default as text, unit and meaning."""

    name: str
    default: str
    unit: str
    help: str
    parse: Callable[[str], Any]


def _number(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError("not a number from 0 up")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError("not a whole number from 0 up")
    return value


def _optional_number(text: str) -> float | None:
    return _number(text) if text else None


def _choice(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"not one of {', '.join(words)}")
        return text

    return parse


def _dsns(text: str) -> tuple[tuple[str, str], ...]:
    """Return (name, DSN) pairs from "name=postgresql://… other=postgresql://…".

    >>> _dsns("shop=postgresql://h/a")
    (('shop', 'postgresql://h/a'),)
    """
    pairs = []
    for word in text.split():
        name, separator, dsn = word.partition("=")
        if not separator or not re.fullmatch(r"[\w-]{1,63}", name) or "://" not in dsn:
            raise ValueError(
                "write each target as name=postgresql://user:password@host:port/database"
            )
        pairs.append((name, dsn))
    return tuple(pairs)


def _megabytes(text: str) -> tuple[tuple[str, int], ...]:
    """Return (name, megabytes) pairs from "name=megabytes …".

    >>> _megabytes("shop=16384 crm=8192")
    (('shop', 16384), ('crm', 8192))
    """
    pairs = []
    for word in text.split():
        name, separator, megabytes = word.partition("=")
        if not separator or not name or not megabytes.isdigit() or not int(megabytes):
            raise ValueError("write each target as name=megabytes")
        pairs.append((name, int(megabytes)))
    return tuple(pairs)


SETTINGS = (
    Setting(
        "PERFCORE_STORE", "", "DSN",
        "Where Perfcore keeps its tables; empty: the embedded PostgreSQL.", str,
    ),
    Setting(
        "PERFCORE_TARGETS", "", "name=DSN …",
        "The databases to watch, separated by spaces.", _dsns,
    ),
    Setting(
        "PERFCORE_APPLY_DSNS", "", "name=DSN …",
        "Per target the DSN that may create and drop indexes; none: nothing is changed.", _dsns,
    ),
    Setting(
        "PERFCORE_TARGET_MEMORY_MB", "", "name=MB …",
        "Per target the memory of its host; known by itself where that is this host.",
        _megabytes,
    ),
    Setting(
        "PERFCORE_CANCEL", "off", "on or off",
        "Whether the Live page may cancel a running statement, with the DSN that may apply.",
        _choice("on", "off"),
    ),
    Setting(
        "PERFCORE_LAB", "", "DSN",
        "A PostgreSQL where trials may create databases; empty: the embedded one, if it runs.",
        str,
    ),
    Setting(
        "PERFCORE_DATA_DIR", "", "path",
        "Where the embedded PostgreSQL and spools live; empty: the user's data directory, "
        "/var/lib/perfcore for root.", str,
    ),
    Setting(
        "PERFCORE_ADDRESS", "127.0.0.1", "IP",
        "Where pages and API listen; anything but loopback is refused for now.", str,
    ),
    Setting("PERFCORE_PORT", "8501", "TCP port", "The port of pages and API.", _count),
    Setting(
        "PERFCORE_SLOW_QUERY_MS", "100", "ms",
        "Executions over this are kept as slow queries.", _number,
    ),
    Setting(
        "PERFCORE_N_PLUS_ONE_CALLS", "5", "calls",
        "N+1: a request that runs one statement at least so often ...", _count,
    ),
    Setting(
        "PERFCORE_N_PLUS_ONE_MS", "50", "ms",
        "... and for at least so long, all its calls together.", _number,
    ),
    Setting(
        "PERFCORE_PARAMETERS", "none", "none or store",
        "What is kept of a slow query's parameters: only their types, or the values.",
        _choice("none", "store"),
    ),
    Setting(
        "PERFCORE_CACHE_STREAM", "on", "on or off",
        "Whether applications send a sampled stream of reads, parameters hashed, for the replay of "
        "a cache.", _choice("on", "off"),
    ),
    Setting(
        "PERFCORE_COLLECT_INTERVAL_S", "10", "s",
        "How often a target's statistics are read.", _number,
    ),
    Setting(
        "PERFCORE_ADVISE_INTERVAL_S", "60", "s",
        "How often suggestions are worked out anew.", _number,
    ),
    Setting(
        "PERFCORE_MIN_TABLE_ROWS", "10000", "rows",
        "Smaller tables get no index suggestion.", _count,
    ),
    Setting(
        "PERFCORE_MIN_GAIN", "0.2", "fraction",
        "The least share of a statement's cost that an index must save.", _number,
    ),
    Setting(
        "PERFCORE_MAX_REGRESSION", "0.1", "fraction",
        "No index is suggested that makes a statement dearer by more than this share.", _number,
    ),
    Setting(
        "PERFCORE_MIN_SAVED_MS_PER_HOUR", "50", "ms",
        "The least database time an hour that a new index must save, its writes paid.", _number,
    ),
    Setting(
        "PERFCORE_MAX_INDEXES", "10", "indexes",
        "The most new indexes that are suggested at a time.", _count,
    ),
    Setting(
        "PERFCORE_INDEX_BUDGET_MB", "", "MB",
        "The room for new indexes; empty: no limit, each must be worth its own.", _optional_number,
    ),
    Setting(
        "PERFCORE_ADVISE_TIME_LIMIT_S", "60", "s",
        "How long suggestions are worked out; then the best found so far are shown.", _number,
    ),
    Setting(
        "PERFCORE_LAB_MAX_MB", "2048", "MB",
        "The most that a trial copies from a target.", _number,
    ),
    Setting(
        "PERFCORE_RAW_RETENTION_DAYS", "2", "days",
        "How long raw samples are kept.", _count,
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Config:
    """The settings, read and checked; DSNs stay out of its repr because they hold passwords."""

    values: Mapping[str, Any]

    def __repr__(self) -> str:
        shown = {k: v for k, v in self.values.items() if "DSN" not in _UNITS[k]}
        return f"Config({shown})"

    @property
    def store(self) -> str:
        return str(self.values["PERFCORE_STORE"])

    @property
    def targets(self) -> tuple[tuple[str, str], ...]:
        return tuple(self.values["PERFCORE_TARGETS"])

    @property
    def apply_dsns(self) -> dict[str, str]:
        return dict(self.values["PERFCORE_APPLY_DSNS"])

    @property
    def target_memory_mb(self) -> tuple[tuple[str, int], ...]:
        return tuple(self.values["PERFCORE_TARGET_MEMORY_MB"])

    @property
    def cancel(self) -> bool:
        return bool(self.values["PERFCORE_CANCEL"] == "on")

    @property
    def lab(self) -> str:
        return str(self.values["PERFCORE_LAB"])

    @property
    def data_dir(self) -> Path:
        """Return the data directory, by default the platform's for this user."""
        if self.values["PERFCORE_DATA_DIR"]:
            return Path(self.values["PERFCORE_DATA_DIR"]).absolute()
        # Root's home is closed to the account that must run PostgreSQL in root's stead.
        if os.name == "posix" and os.geteuid() == 0:
            return Path("/var/lib/perfcore")
        return Path(platformdirs.user_data_dir("perfcore", appauthor=False))

    @property
    def address(self) -> str:
        return str(self.values["PERFCORE_ADDRESS"])

    @property
    def port(self) -> int:
        return int(self.values["PERFCORE_PORT"])

    @property
    def slow_query_ms(self) -> float:
        return float(self.values["PERFCORE_SLOW_QUERY_MS"])

    @property
    def n_plus_one_calls(self) -> int:
        return int(self.values["PERFCORE_N_PLUS_ONE_CALLS"])

    @property
    def n_plus_one_ms(self) -> float:
        return float(self.values["PERFCORE_N_PLUS_ONE_MS"])

    @property
    def store_parameters(self) -> bool:
        return bool(self.values["PERFCORE_PARAMETERS"] == "store")

    @property
    def cache_stream(self) -> bool:
        return bool(self.values["PERFCORE_CACHE_STREAM"] == "on")

    @property
    def collect_interval_s(self) -> float:
        return float(self.values["PERFCORE_COLLECT_INTERVAL_S"])

    @property
    def advise_interval_s(self) -> float:
        return float(self.values["PERFCORE_ADVISE_INTERVAL_S"])

    @property
    def min_table_rows(self) -> int:
        return int(self.values["PERFCORE_MIN_TABLE_ROWS"])

    @property
    def min_gain(self) -> float:
        return float(self.values["PERFCORE_MIN_GAIN"])

    @property
    def max_regression(self) -> float:
        return float(self.values["PERFCORE_MAX_REGRESSION"])

    @property
    def min_saved_ms_per_hour(self) -> float:
        return float(self.values["PERFCORE_MIN_SAVED_MS_PER_HOUR"])

    @property
    def max_indexes(self) -> int:
        return int(self.values["PERFCORE_MAX_INDEXES"])

    @property
    def index_budget_bytes(self) -> int | None:
        budget_mb = self.values["PERFCORE_INDEX_BUDGET_MB"]
        return None if budget_mb is None else int(budget_mb * 1e6)

    @property
    def advise_time_limit_s(self) -> float:
        return float(self.values["PERFCORE_ADVISE_TIME_LIMIT_S"])

    @property
    def lab_max_mb(self) -> float:
        return float(self.values["PERFCORE_LAB_MAX_MB"])

    @property
    def raw_retention_days(self) -> int:
        return int(self.values["PERFCORE_RAW_RETENTION_DAYS"])


_UNITS = {s.name: s.unit for s in SETTINGS}


def load_config(environ: Mapping[str, str] | None = None) -> Config:
    """Return the settings from the environment.

    Raises ConfigurationError for a PERFCORE_ variable that does not exist (with the
    nearest name that does) and for a value that does not parse; a DSN is never shown.
    """
    environ = os.environ if environ is None else environ
    known = {s.name for s in SETTINGS} | {"PERFCORE_SUPERVISED"}
    for name in environ:
        if name.startswith("PERFCORE_") and name not in known:
            near = difflib.get_close_matches(name, sorted(known), 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
            raise ConfigurationError(f"{name} is not a setting: {hint}", hint=hint)
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        text = environ.get(setting.name, setting.default)
        try:
            values[setting.name] = setting.parse(text)
        except ValueError as error:
            shown = "(hidden)" if "DSN" in setting.unit else repr(text)
            raise ConfigurationError(
                f"{setting.name} is {shown}: {error}; it wants {setting.unit}. {setting.help}"
            ) from None
    return Config(values)


def settings_table() -> str:
    """Return the settings as the Markdown table that the README shows."""
    rows = ["| Variable | Default | Unit | Meaning |", "|---|---|---|---|"]
    for s in SETTINGS:
        default = f"`{s.default}`" if s.default else ""
        rows.append(f"| `{s.name}` | {default} | {s.unit} | {s.help} |")
    return "\n".join(rows)
