"""What an application imports: `PerfcoreMiddleware`, `watch` and `record`.

Nothing here imports pandas, Streamlit, Plotly or a SQL parser, and nothing runs before the first
request is measured.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import replace

from perfcore.collect.batching import Limits
from perfcore.collect.heap import HeapLine, trace_heap
from perfcore.collect.middleware import PerfcoreMiddleware
from perfcore.collect.psycopg_hooks import measured
from perfcore.collect.recorder import Accounting, Recorder, finite
from perfcore.collect.sql_hooks import current_recorder, set_current_recorder
from perfcore.collect.watching import unwatch, watch
from perfcore.collect.wsgi import PerfcoreWSGIMiddleware
from perfcore.config import Config, load_config
from perfcore.errors import ConfigurationError

log = logging.getLogger("perfcore.collect")

__all__ = [
    "Accounting",
    "HeapLine",
    "PerfcoreMiddleware",
    "PerfcoreWSGIMiddleware",
    "Recorder",
    "configure",
    "current_recorder",
    "measured",
    "record",
    "trace_heap",
    "unwatch",
    "watch",
]


def configure(
    service: str,
    store: str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    strict: bool = False,
) -> Recorder:
    """Return a recorder with the settings of the environment and make it the current one.

    A wrong setting or a missing store is logged in one line, and the recorder records
    nothing: measuring must never keep an application from starting. With `strict` it is a
    ConfigurationError instead.
    """
    try:
        config = load_config(os.environ if environ is None else environ)
        store = config.store if store is None else store
        _check_store(store)
    except ConfigurationError as error:
        if strict:
            raise
        log.warning("perfcore records nothing: %s", error)
        return Recorder(service, "")
    current = current_recorder()
    if current is not None and current.serves(service, store):
        return current
    recorder = Recorder(
        service,
        store,
        slow_query_ms=config.slow_query_ms,
        store_parameters=config.store_parameters,
        limits=_limits(config),
    )
    set_current_recorder(recorder)
    return recorder


def _limits(config: Config) -> Limits:
    limits = Limits(n_plus_one_calls=config.n_plus_one_calls, n_plus_one_ms=config.n_plus_one_ms)
    return limits if config.cache_stream else replace(limits, references_per_s=0.0)


def _check_store(store: str) -> None:
    """Raise ConfigurationError unless it is a DSN; the DSN itself is never shown."""
    if not store:
        raise ConfigurationError("set PERFCORE_STORE to the DSN of the store")
    # Deferred: an application that is not measured does not pay for it.
    from psycopg import ProgrammingError, conninfo

    try:
        conninfo.conninfo_to_dict(store)
    except ProgrammingError as error:
        unknown = re.match(r'invalid [\w ]+:? "\w+"', str(error))
        reason = unknown[0] if unknown else "it is no connection string"
        raise ConfigurationError(
            f"PERFCORE_STORE is (hidden): {reason}; it wants postgresql://user@host/database"
        ) from None


def record(name: str, value: float, unit: str = "") -> None:
    """Record a value of the application's own; ValueError when it is no finite number.

    Before a middleware or `configure` named the service nothing is kept.
    """
    recorder = current_recorder()
    if recorder is not None:
        recorder.metric(name, value, unit)
    else:
        finite(name, value)
