"""What people paste and read."""

from __future__ import annotations

from perfcore.advise.advisor import Advice
from perfcore.advise.report import render_text
from perfcore.types import Evidence, Finding, Silence, SilenceReason, Suggestion

INDEX = Suggestion(
    "one",
    1,
    "index",
    'Index orders ("note")',
    "It reads all. With an index it does not.",
    Finding("seq_scan", "It reads all."),
    Evidence.ESTIMATED,
    12_000.0,
    ddl="""CREATE INDEX CONCURRENTLY "i" ON "public"."orders" ("note") WHERE note = 'a%'""",
    undo='DROP INDEX CONCURRENTLY "public"."i"',
    caveats=("It is large.",),
)


def test_the_terminal_shows_gain_reason_and_ddl_and_counts_silences() -> None:
    silences = (Silence(1, 1, "SELECT", SilenceReason.FAST),) * 2
    assert render_text(Advice((INDEX,), silences, 7, elapsed_s=0.5, planner="twin")) == (
        "1 suggestions (7 plans in 0.5 s, planner: twin)\n"
        "\n"
        '1. Index orders ("note") · saves 12.0 s per hour (estimated)\n'
        "   It reads all. With an index it does not.\n"
        "   But: It is large.\n"
        """   CREATE INDEX CONCURRENTLY "i" ON "public"."orders" ("note") WHERE note = 'a%';\n"""
        "\n"
        "2 statements without a suggestion:\n"
        f"     2  {SilenceReason.FAST.value}"
    )
