"""What an application imports: `PerfcoreMiddleware`, `watch` and `record`.

Nothing here imports pandas, Streamlit, Plotly or a SQL parser, and nothing runs before the first
request is measured.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

from perfcore.collect.heap import HeapLine, trace_heap
from perfcore.collect.middleware import PerfcoreMiddleware
from perfcore.collect.psycopg_hooks import measured
from perfcore.collect.recorder import Accounting, Recorder, finite
from perfcore.collect.sql_hooks import current_recorder, set_current_recorder
from perfcore.collect.watching import unwatch, watch
from perfcore.collect.wsgi import PerfcoreWSGIMiddleware
from perfcore.config import load_config
from perfcore.errors import ConfigurationError

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
    service: str, store: str | None = None, *, environ: Mapping[str, str] | None = None
) -> Recorder:
    """Return a recorder with the settings of the environment and make it the current one.

    A wrong setting or a missing store is logged in one line, and the recorder records
    nothing: measuring must never keep an application from starting.
    """
    log = logging.getLogger("perfcore.collect")
    try:
        config = load_config(os.environ if environ is None else environ)
    except ConfigurationError as error:
        log.warning("perfcore records nothing: %s", error)
        return Recorder(service, "")
    store = config.store if store is None else store
    current = current_recorder()
    if current is not None and current.serves(service, store):
        return current
    recorder = Recorder(
        service,
        store,
        slow_query_ms=config.slow_query_ms,
        store_parameters=config.store_parameters,
    )
    if not recorder.is_enabled:
        log.warning("perfcore records nothing: set PERFCORE_STORE to the DSN of the store")
    set_current_recorder(recorder)
    return recorder


def record(name: str, value: float, unit: str = "") -> None:
    """Record a value of the application's own; ValueError when it is no finite number.

    Before a middleware or `configure` named the service nothing is kept.
    """
    recorder = current_recorder()
    if recorder is not None:
        recorder.metric(name, value, unit)
    else:
        finite(name, value)
