"""Refuse statements that must not be planned or executed for an experiment.

These are the first three of several layers: the text, its parse, and what the server itself
says the statement would call. What runs afterwards still runs as one message of the extended
protocol, READ ONLY, timed out and rolled back. A refusal reads "not run: <reason> (rule S12)";
the rules are those of the list of hostile statements.
"""

from __future__ import annotations

import re
from functools import lru_cache

import psycopg
import sqlglot
from psycopg.rows import TupleRow
from sqlglot import Token, TokenType, exp
from sqlglot.errors import SqlglotError

from perfcore.db import MARKER, query
from perfcore.errors import PlanningFailed, StatementRefused
from perfcore.whatif.text import spaced

MAX_BYTES = 64 * 1024
_PLANNABLE = ("select", "with", "insert", "update", "delete", "merge", "values", "table", "(")
_RULE_OF_FIRST_WORD = {
    "insert": "S4", "update": "S4", "delete": "S4", "merge": "S4", "create": "S7", "copy": "S30",
    "do": "S31", "call": "S31", "set": "S32", "reset": "S32", "discard": "S32", "lock": "S36",
    "notify": "S37", "listen": "S37", "prepare": "S47", "execute": "S47", "deallocate": "S47",
    "begin": "S2", "commit": "S2", "rollback": "S2", "start": "S2", "end": "S2",
}  # fmt: skip

# Functions of pg_catalog that are immutable or stable, touch nothing but their arguments and
# run no text given to them as SQL.
_ALLOWED = frozenset(
    """
    abs age any_value array_agg array_append array_cat array_dims array_length array_lower
    array_position array_positions array_prepend array_remove array_replace array_to_json
    array_to_string array_upper ascii avg bit_and bit_length bit_or bool_and bool_or bpchar btrim
    cardinality cbrt ceil ceiling char_length character_length chr coalesce concat concat_ws corr
    cos count covar_pop covar_samp cume_dist current_date current_time current_timestamp date
    date_bin date_part date_trunc decode degrees dense_rank div encode every exp extract
    first_value floor format format_type generate_series generate_subscripts greatest grouping
    initcap isfinite json_agg json_array_elements json_array_elements_text json_array_length
    json_build_array json_build_object json_each json_each_text json_extract_path
    json_extract_path_text json_object json_object_agg json_object_keys json_typeof jsonb_agg
    jsonb_array_elements jsonb_array_elements_text jsonb_array_length jsonb_build_array
    jsonb_build_object jsonb_each jsonb_each_text jsonb_extract_path jsonb_extract_path_text
    jsonb_object jsonb_object_agg jsonb_object_keys jsonb_path_exists jsonb_path_match
    jsonb_path_query jsonb_path_query_array jsonb_path_query_first jsonb_pretty jsonb_set
    jsonb_strip_nulls jsonb_typeof justify_days justify_hours justify_interval lag last_value lead
    least left length ln localtime localtimestamp log log10 lower lower_inf lpad ltrim make_date
    make_interval make_time make_timestamp make_timestamptz max md5 min mod mode now nth_value
    ntile nullif numrange int4range int8range daterange tsrange tstzrange octet_length overlay
    overlaps percent_rank percentile_cont percentile_disc phraseto_tsquery pi plainto_tsquery
    position power pow quote_ident quote_literal quote_nullable radians range_agg rank regexp_count
    regexp_like regexp_match regexp_matches regexp_replace regexp_split_to_array
    regexp_split_to_table regexp_substr regr_slope replace reverse right round row row_number
    row_to_json rpad rtrim scale sha256 sha512 sign similarity sin split_part sqrt
    starts_with statement_timestamp stddev stddev_pop stddev_samp string_agg string_to_array
    string_to_table strpos substr substring sum tan text timestamp timestamptz timezone to_char
    to_date to_hex to_json to_jsonb to_number to_timestamp to_tsquery to_tsvector translate trim
    trim_array trunc ts_headline ts_rank ts_rank_cd unistr unnest upper upper_inf var_pop var_samp
    variance websearch_to_tsquery width_bucket word_similarity isempty cot asin acos atan atan2
    """.split()
)
# Names that the parser makes of syntax: they are no calls.
_SYNTAX = (
    exp.Connector, exp.Case, exp.If, exp.Cast, exp.TryCast, exp.Exists, exp.Array, exp.Coalesce,
    exp.Nullif, exp.Greatest, exp.Least, exp.Extract, exp.Trim, exp.Substring, exp.StrPosition,
    exp.CurrentDate, exp.CurrentTime, exp.CurrentTimestamp, exp.CurrentUser, exp.Localtime,
    exp.Localtimestamp, exp.JSONExtract, exp.JSONExtractScalar, exp.JSONBExtract,
    exp.JSONBExtractScalar, exp.JSONBContains, exp.RegexpLike, exp.RegexpILike,
    exp.ArrayContainsAll, exp.ArrayOverlaps,
)  # fmt: skip
_RULE_OF_FUNCTION = (
    (r"nextval|setval|currval|lastval", "S15"),
    (r"pg_(terminate|cancel)_backend", "S16"),
    (r"pg_(reload_conf|rotate_logfile|switch_wal|create_restore_point)", "S17"),
    (r"pg_stat_(reset|statements_reset).*", "S18"),
    (r"pg_read_(binary_)?file", "S19"),
    (r"pg_ls_.*|pg_stat_file|pg_file_.*", "S22"),
    (r"lo_(export|import)", "S23"),
    (r"lo_.*|lowrite|loread", "S24"),
    (r"dblink.*", "S25"),
    (r"(query|cursor|table|database|schema)_to_xml.*", "S28"),
    (r"ts_stat|ts_rewrite|crosstab.*|connectby|xpath_table", "S29"),
    (r"set_config", "S34"),
    (r"pg_(try_)?advisory_.*", "S35"),
    (r"pg_notify", "S37"),
    (r"pg_logical_.*", "S38"),
    (r"pg_current_xact_id.*|txid_current.*", "S39"),
    (r"pg_export_snapshot|pg_(create|drop|copy)_.*slot|pg_backup_.*", "S40"),
    (r"pg_sleep.*", "S41"),
    (r"pg_prewarm|hypopg.*|autoprewarm.*", "S51"),
)
# Extensions whose functions only compute.
_KNOWN_EXTENSIONS = frozenset(
    "btree_gin btree_gist citext cube earthdistance fuzzystrmatch hstore intarray isn ltree "
    "pg_trgm seg unaccent vector".split()
)
_HARMLESS_VOLATILE = frozenset(
    "random random_normal clock_timestamp timeofday gen_random_uuid uuidv7".split()
)
_SECRET_RELATIONS = re.compile(
    r"pg_(authid|shadow|user_mapping|user_mappings|stats|statistic.*|stats_ext.*|hba_file_rules|"
    r"largeobject|subscription|file_settings|stat_activity|stat_statements)"
)


@lru_cache(maxsize=4096)  # refusals are raised anew each time
def check_plannable(text: str) -> None:
    """Raise StatementRefused unless the text is one statement that may be EXPLAINed."""
    tokens = _checked(text)
    if tokens[0].text.lower() not in _PLANNABLE:
        word = tokens[0].text
        raise _refused(f"{word.upper()} has no plan", _rule_of(word))
    for name in _called(tokens):
        if rule := _hostile(name):
            raise _refused(f"it calls {name}()", rule)


def check_select(text: str) -> None:
    """Raise StatementRefused unless the text is one plain SELECT that may be executed.

    It may lock and write nothing, and call only functions of pg_catalog known to be
    harmless; casts and operators are taken as they are, for these the read-only
    transaction and the role it runs in stand.
    """
    tokens = _checked(text)
    if tokens[0].text.lower() not in ("select", "with", "values", "table", "("):
        word = tokens[0].text
        raise _refused(f"{word.upper()} is not a SELECT", _rule_of(word))
    for name in _called(tokens):
        if rule := _hostile(name):
            raise _refused(f"it calls {name}()", rule)
    if any(t.token_type == TokenType.TABLE_SAMPLE for t in tokens):
        raise _refused("TABLESAMPLE is not allowed", "S14")
    if name := _hidden_by_quotes(tokens):
        raise _refused(f'it calls "{name}"(), which is not PostgreSQL\'s own', "S9")
    tree = _tree(text)
    if not isinstance(tree, exp.Query | exp.Values):
        raise _refused("it is not a SELECT", "S4")
    for node in tree.walk():
        _check_node(node)


def check_calls(connection: psycopg.Connection[TupleRow], text: str) -> None:
    """Raise StatementRefused where the server says that a SELECT calls what is not harmless.

    It sees what no parser sees: `t.f` for `f(t)`, operators of other schemas, functions
    within views. The statement, one that `check_select` passed, becomes a temporary view
    that is rolled back, so it is analysed but neither planned nor run; the connection is in
    autocommit, on a server that is not read-only, of a role with the TEMP right (a lab, or
    the twin). Raises PlanningFailed where the statement does not fit the database.
    """
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(
                f"{MARKER} SET LOCAL statement_timeout = '2s'; SET LOCAL lock_timeout = '100ms'"
            )
            body = _without_parameters(connection, text)
            view = f"CREATE TEMP VIEW perfcore_asked AS SELECT 1 FROM (\n{body}\n) AS asked"
            connection.cursor(binary=True).execute(view.encode())
            rows = connection.execute(query("safety_read_calls"), {}).fetchall()
    except psycopg.Error as error:
        words = error.diag.message_primary or str(error)
        raise PlanningFailed(f"not analysed: {words}") from error
    for kind, schema, name, volatility, extension in rows:
        if kind != "function":
            raise _refused(f"it reads the foreign table {schema}.{name}", "S26")
        if rule := _hostile(name):
            raise _refused(f"it calls {name}()", rule)
        if schema != "pg_catalog" and extension not in _KNOWN_EXTENSIONS:
            raise _refused(f"it calls {schema}.{name}(), which is not PostgreSQL's own", "S49")
        if volatility == "v" and name not in _HARMLESS_VOLATILE:
            raise _refused(f"it calls {name}(), which may change something", "S9")


def _without_parameters(connection: psycopg.Connection[TupleRow], text: str) -> str:
    """Return the text with each `$n` as a null of the type that the server infers for it."""
    text = spaced(text)  # which the tokens' places are counted in
    tokens = [t for t in _checked(text) if t.token_type != TokenType.SEMICOLON]
    text = text[: tokens[-1].end + 1]
    places = [
        (dollar.start, number.end + 1, int(number.text))
        for dollar, number in zip(tokens, tokens[1:], strict=False)
        if dollar.token_type == TokenType.PARAMETER and number.token_type == TokenType.NUMBER
    ]
    if not places:
        return text
    connection.cursor(binary=True).execute(f"PREPARE perfcore_asked AS {text}".encode())
    row = connection.execute(
        "SELECT parameter_types::text[] FROM pg_catalog.pg_prepared_statements "
        "WHERE name = 'perfcore_asked'"
    ).fetchone()
    connection.execute("DEALLOCATE perfcore_asked")
    assert row is not None
    for start, end, number in reversed(places):
        text = f"{text[:start]}(NULL::{row[0][number - 1]}){text[end:]}"
    return text


def _check_node(node: exp.Expr) -> None:
    if isinstance(node, exp.DML | exp.DDL | exp.Command) and not isinstance(node, exp.Query):
        raise _refused("a part of it writes", "S5")
    if node.args.get("into"):
        raise _refused("SELECT INTO makes a table", "S6")
    if node.args.get("locks"):
        raise _refused("FOR UPDATE and FOR SHARE lock rows", "S8")
    if isinstance(node, exp.Operator):
        raise _refused("operators of other schemas are not allowed", "S49")
    if isinstance(node, exp.Table) and _SECRET_RELATIONS.fullmatch(node.name.lower()):
        raise _refused(f"it reads {node.name}", "S46")
    if isinstance(node, exp.Func) and not isinstance(node, _SYNTAX):
        _check_call(node)


def _check_call(node: exp.Func) -> None:
    name = _function_name(node)
    schema = _schema(node)
    if schema not in ("", "pg_catalog"):
        raise _refused(f"it calls {schema}.{name}(), which is not PostgreSQL's own", "S9")
    if name not in _ALLOWED:
        raise _refused(f"it calls {name}(), which is not known to be harmless", "S9")


def _function_name(node: exp.Func) -> str:
    if isinstance(node, exp.Anonymous):
        this = node.this
        name = str(this.this if isinstance(this, exp.Identifier) else this)
        quoted = isinstance(this, exp.Identifier) and this.args.get("quoted")
        return name if quoted else name.lower()
    written = str(node.meta.get("name", "") or node.sql_name()).lower()
    if written in _ALLOWED:
        return written
    generated = re.match(r"\w+", node.sql(dialect="postgres"))
    return generated.group().lower() if generated else written


def _schema(node: exp.Func) -> str:
    parent = node.parent
    if isinstance(parent, exp.Dot) and parent.expression is node:
        return str(parent.this.sql(dialect="postgres")).strip('"')
    if isinstance(parent, exp.Table) and parent.this is node and parent.db:
        return parent.db
    return ""


def _checked(text: str) -> list[Token]:
    """Return the tokens of a text that is one statement."""
    if "\0" in text:
        raise _refused("it holds a NUL byte", "S50")
    length = len(text.encode("utf-8", "surrogatepass"))
    if length > MAX_BYTES:
        raise _refused(f"it has {length} bytes, more than {MAX_BYTES}", "S50")
    if re.search(r"\bU&[\"']", text, re.IGNORECASE):
        raise _refused("U& escapes can hide a name", "S41")
    tokens = _tokens(text)
    while tokens and tokens[-1].token_type == TokenType.SEMICOLON:
        tokens.pop()
    if not tokens:
        raise _refused("it is empty", "S50")
    if any(t.token_type == TokenType.SEMICOLON for t in tokens):
        raise _refused("it is more than one statement", "S1")
    return tokens


def _tokens(text: str) -> list[Token]:
    try:
        return list(sqlglot.tokenize(spaced(text), read="postgres"))
    except SqlglotError:
        raise _refused("it ends within a quote or is not SQL", "S50") from None


@lru_cache(maxsize=256)
def _parsed(text: str) -> tuple[exp.Expr | None, ...]:
    return tuple(sqlglot.parse(spaced(text), read="postgres"))


def _tree(text: str) -> exp.Expr:
    try:
        trees = [t for t in _parsed(text) if t is not None]
    except (SqlglotError, RecursionError):
        raise _refused("it could not be parsed, so what it does is not known", "S48") from None
    if len(trees) != 1:
        raise _refused("it is more than one statement", "S1")
    return trees[0]


def _called(tokens: list[Token]) -> list[str]:
    """Return every word that stands before a parenthesis, quoted or not."""
    pairs = zip(tokens, tokens[1:], strict=False)
    return [a.text.lower() for a, b in pairs if b.token_type == TokenType.L_PAREN]


def _hidden_by_quotes(tokens: list[Token]) -> str:
    """Return a called name that differs from a known one only in case, kept by quotes."""
    for before, name, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
        quoted = name.token_type == TokenType.IDENTIFIER and name.text != name.text.lower()
        if quoted and after.token_type == TokenType.L_PAREN and before.text.lower() != "as":
            return name.text
    return ""


def _hostile(name: str) -> str:
    return next((rule for words, rule in _RULE_OF_FUNCTION if re.fullmatch(words, name)), "")


def _rule_of(word: str) -> str:
    return _RULE_OF_FIRST_WORD.get(word.lower(), "S48")


def _refused(reason: str, rule: str) -> StatementRefused:
    return StatementRefused(
        f"not run: {reason} (rule {rule})", hint="give one SELECT that only reads"
    )
