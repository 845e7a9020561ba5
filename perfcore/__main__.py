"""The command line: `python -m perfcore COMMAND`."""

from __future__ import annotations

import argparse
import ctypes
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from perfcore.config import Config, load_config
from perfcore.errors import ConfigurationError, PerfcoreError
from perfcore.server.supervisor import die_with_parent

if TYPE_CHECKING:
    from perfcore.advise.workload import Options

NOTHING_TO_DO, SUGGESTIONS_FOUND, WRONG_USE = 0, 10, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, 1 after an error in words, 2 for wrong use, 10 for findings."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # At INFO both name every request or statement.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    die_with_parent()
    try:
        return int(options.run(load_config(), options) or 0)
    except PerfcoreError as error:
        print(f"perfcore: {error}", file=sys.stderr)
        if error.hint and error.hint not in str(error):
            print(f"hint: {error.hint}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="perfcore",
        description="Performance analytics and tuning for web applications on PostgreSQL.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="show the whole chain on a shop with real traffic")
    demo.add_argument("--scale", type=float, default=1.0, help="size of the shop, 1 is 1 M rows")
    demo.add_argument("--rate", type=float, default=15.0, help="requests per second at the peak")
    demo.set_defaults(run=_demo)

    serve = commands.add_parser("serve", help="serve pages and API")
    serve.set_defaults(run=_serve)

    collect = commands.add_parser("collect", help="read the targets' statistics until stopped")
    collect.set_defaults(run=_collect)

    migrate = commands.add_parser("migrate", help="bring the store's schema up to date")
    migrate.set_defaults(run=_migrate)

    doctor = commands.add_parser("doctor", help="say what each target still needs, with the SQL")
    doctor.add_argument("--target", default="", help="one of PERFCORE_TARGETS; default: all")
    doctor.add_argument("--format", choices=("text", "json"), default="text")
    doctor.add_argument(
        "--setup-sql", action="store_true", help="print the script that prepares a server"
    )
    doctor.set_defaults(run=_doctor)

    advise = commands.add_parser("advise", help="print suggestions for a workload")
    advise.add_argument("--target", default="", help="one of PERFCORE_TARGETS; default: all")
    advise.add_argument(
        "--dsn", default="", help="advise on this database, without a store; it is only read"
    )
    advise.add_argument(
        "--workload", type=Path, metavar="FILE",
        help='with --dsn: a line a statement, {"id": "s01", "sql": "…", "calls": 300}; '
        "default: what the database's pg_stat_statements holds",
    )  # fmt: skip
    advise.add_argument("--budget-mb", type=_positive, metavar="N", help="room for new indexes")
    advise.add_argument(
        "--max-indexes", type=_count, metavar="N",
        help="at most so many; default: 10, without a limit where --budget-mb is given",
    )  # fmt: skip
    advise.add_argument("--time-limit-s", type=_positive, metavar="N", help="default: 60 s")
    advise.add_argument("--format", choices=("text", "json"), default="text")
    advise.add_argument(
        "--explain", type=int, metavar="QUERYID",
        help="say everything of this one statement instead: what was tried, what was rejected",
    )  # fmt: skip
    advise.add_argument(
        "--every", type=float, default=0, metavar="S", help="go on, every S seconds"
    )
    advise.set_defaults(run=_advise)
    return parser


def _demo(config: Config, options: argparse.Namespace) -> int:
    from perfcore.demo.run import run_demo

    run_demo(config, scale=options.scale, rate=options.rate)
    return 0


def _serve(config: Config, options: argparse.Namespace) -> int:
    from perfcore.server.launch import dashboard
    from perfcore.server.supervisor import ROOT
    from perfcore.server.web import refuse_open_address

    refuse_open_address(config.address)
    program = dashboard(config.port, {})
    os.chdir(ROOT)
    os.execv(sys.executable, [sys.executable, *program.arguments])


def _collect(config: Config, options: argparse.Namespace) -> int:
    from perfcore.collect.loop import run

    run(config, stop=_stop_on_signal())
    return 0


def _migrate(config: Config, options: argparse.Namespace) -> int:
    from perfcore.errors import ConfigurationError
    from perfcore.store.migrate import migrate

    if not config.store:
        raise ConfigurationError("PERFCORE_STORE is not set; the embedded store migrates itself")
    for migration in migrate(config.store):
        print(f"applied {migration.version}_{migration.name}")
    return 0


def _doctor(config: Config, options: argparse.Namespace) -> int:
    from perfcore import doctor
    from perfcore.collect.readiness import examine

    targets = [t for t in config.targets if options.target in ("", t[0])]
    if options.target and not targets:
        return _no_target()
    if options.setup_sql:
        print(doctor.setup_sql(targets[0] if options.target else None), end="")
        return doctor.ALL_WELL
    if not targets:
        return _no_target()
    found = examine(targets)
    as_text = options.format == "text"
    print(doctor.render(found) if as_text else json.dumps(doctor.document(found), indent=2))
    return doctor.exit_code(found)


def _no_target() -> int:
    print("perfcore: no such target; set PERFCORE_TARGETS to name=DSN", file=sys.stderr)
    return WRONG_USE


def _advise(config: Config, options: argparse.Namespace) -> int:
    if options.dsn and options.explain is not None:
        print("perfcore: --explain needs a target whose statements are stored", file=sys.stderr)
        return WRONG_USE
    if options.dsn:
        return _advise_dsn(config, options)
    if options.workload:
        print("perfcore: --workload needs --dsn, the database to advise on", file=sys.stderr)
        return WRONG_USE
    from perfcore.advise import loop
    from perfcore.codec import to_json

    if options.every:
        from perfcore.lab import tend

        stop = _stop_on_signal()
        tend.start(config, stop)
        loop.run(config, stop=stop, every_s=options.every)
        return 0
    names = [name for name, _ in config.targets if options.target in ("", name)]
    if not names:
        return _no_target()
    if options.explain is not None:
        return _explain(config, options, names)
    found = 0
    for name in names:
        with _quiet_libraries():
            advice = loop.advise_target(config, name, _limits(config, options))
        found += len(advice.suggestions)
        text = options.format == "text"
        print(loop.render_text(advice) if text else json.dumps(to_json(advice), indent=2))
    return SUGGESTIONS_FOUND if found else NOTHING_TO_DO


def _explain(config: Config, options: argparse.Namespace, names: list[str]) -> int:
    """Print all that a new round says of one statement."""
    from perfcore.advise import loop

    with _quiet_libraries():
        text = loop.explain_statement(config, options.explain, names, _limits(config, options))
    if text:
        print(text, end="")
        return NOTHING_TO_DO
    print(
        f"perfcore: no statement {options.explain} was read from {', '.join(names)}\n"
        "hint: --explain takes a queryid of pg_stat_statements; the Queries page shows them",
        file=sys.stderr,
    )
    return WRONG_USE


def _advise_dsn(config: Config, options: argparse.Namespace) -> int:
    from perfcore.advise.account import account_json, account_text, advise_dsn
    from perfcore.advise.workload_file import read_server, read_workload_file

    try:
        items = read_workload_file(options.workload) if options.workload else None
    except ConfigurationError as error:
        print(f"perfcore: {error}\nhint: {error.hint}", file=sys.stderr)
        return WRONG_USE
    if items is None:
        items = read_server(options.dsn)
    with _quiet_libraries():
        account = advise_dsn(
            options.dsn,
            items,
            config.data_dir,
            _limits(config, options),
            is_recorded=options.workload is None,
            progress=_Progress(),
        )
    text = options.format == "text"
    print(account_text(account) if text else json.dumps(account_json(account), indent=2))
    return SUGGESTIONS_FOUND if account.suggestions else NOTHING_TO_DO


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Send to stderr what libraries write to the standard output past Python.

    HiGHS prints lines of its own there, and the standard output is for the answer alone. What C
    has buffered has to leave before the descriptor is the answer's again.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
        os.close(kept)


def _limits(config: Config, options: argparse.Namespace) -> Options:
    from perfcore.advise.workload import options_of

    given = options_of(config)
    budget, most = given.storage_budget_bytes, options.max_indexes
    if options.budget_mb is not None:
        budget = int(options.budget_mb * 1e6)
        most = most or sys.maxsize
    return replace(
        given,
        storage_budget_bytes=budget,
        max_indexes=most or given.max_indexes,
        time_limit_s=options.time_limit_s or given.time_limit_s,
    )


class _Progress:
    """Tells on stderr what is being done: on a terminal in one line, else a line each step."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, share: float, what: str) -> None:
        line = f"{100 * share:3.0f} % {what}"
        if line != self._last:
            end = "\n" if share >= 1 or not sys.stderr.isatty() else "\r"
            print(f"\x1b[2K{line}" if end == "\r" else line, end=end, file=sys.stderr, flush=True)
            self._last = line


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 up")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def _stop_on_signal() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


if __name__ == "__main__":
    sys.exit(main())
