import pytest

from perfcore.db import connect
from perfcore.errors import PlanningFailed, StatementRefused
from perfcore.whatif.safety import check_calls, check_plannable, check_select

HOSTILE = {
    "S1": ["SELECT 1; SELECT 2", "SELECT 1 -- x\n; DROP TABLE t"],
    "S2": ["BEGIN", "COMMIT"],
    "S4": ["INSERT INTO t VALUES (1)", "UPDATE t SET a = 1", "DELETE FROM t"],
    "S5": ["WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d"],
    "S6": ["SELECT * INTO u FROM t"],
    "S7": ["CREATE TABLE u AS SELECT 1"],
    "S8": ["SELECT * FROM t FOR UPDATE", "SELECT * FROM (SELECT * FROM t FOR SHARE) AS s"],
    "S9": ["SELECT public.wipe()", "SELECT wipe(a) FROM t", "SELECT * FROM wipe()",
           'SELECT "Lower"(a) FROM t', "SELECT evil.lower(a) FROM t",
           "SELECT * FROM evil.upper('a')", "SELECT a FROM t ORDER BY evil.count(a)",
           "SELECT evil.now()"],
    "S14": ["SELECT * FROM t TABLESAMPLE system (wipe())"],
    "S15": ["SELECT nextval('s')", "SELECT setval('s', 1)"],
    "S16": ["SELECT pg_terminate_backend(pid) FROM t"],
    "S17": ["SELECT pg_reload_conf()"],
    "S18": ["SELECT pg_stat_reset()"],
    "S19": ["SELECT pg_read_file('/etc/passwd')", "SELECT * FROM pg_read_file('/x') AS f",
            "VALUES (pg_read_file('/x'))"],
    "S22": ["SELECT * FROM pg_ls_dir('.')"],
    "S23": ["SELECT lo_export(1, '/x')"],
    "S25": ["SELECT * FROM dblink('x', 'DELETE FROM t') AS d (a int)"],
    "S28": ["SELECT query_to_xml('DELETE FROM t', true, true, '')"],
    "S29": ["SELECT * FROM ts_stat('SELECT 1')"],
    "S30": ["COPY t TO PROGRAM 'sh'"],
    "S31": ["DO $$BEGIN END$$", "CALL p()"],
    "S32": ["SET ROLE postgres"],
    "S34": ["SELECT set_config('statement_timeout', '0', false)"],
    "S35": ["SELECT pg_advisory_lock(1)"],
    "S36": ["LOCK TABLE t"],
    "S37": ["NOTIFY x", "SELECT pg_notify('a', 'b')"],
    "S38": ["SELECT pg_logical_emit_message(false, 'a', 'b')"],
    "S39": ["SELECT txid_current()"],
    "S40": ["SELECT pg_export_snapshot()"],
    "S41": ["SELECT pg_sleep(9)", 'SELECT "pg_catalog"."pg_sleep"(9)',
            'SELECT U&"\\0070g_sleep"(9)', "SELECT PG_SLEEP (9)", "SELECT pg_sleep/**/(9)"],
    "S46": ["SELECT * FROM pg_authid", "SELECT * FROM pg_catalog.pg_stats"],
    "S47": ["EXECUTE planted"],
    "S48": ["EXPLAIN ANALYZE SELECT 1", "VACUUM t", "ALTER SYSTEM SET x = 1", "LOAD 'x'"],
    "S49": ["SELECT 1 OPERATOR(evil.+) 2"],
    "S50": ["SELECT 1\0", "", ";", "SELECT 'open", "SELECT " + "1 + " * 20000 + "1"],
    "S51": ["SELECT pg_prewarm('t')", "SELECT hypopg_reset()"],
}  # fmt: skip
HARMLESS = [
    "SELECT 1",
    "SELECT * FROM t WHERE a = $1 AND b LIKE $2 || '%' ORDER BY c DESC NULLS LAST LIMIT $3;",
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT * FROM r",
    "SELECT count(*) FILTER (WHERE a IN (1, 2)), sum(b) OVER (PARTITION BY c) FROM t GROUP BY a",
    "SELECT date_trunc('day', at), coalesce(max(x), 0) FROM t GROUP BY 1 HAVING count(*) > 1",
    "SELECT lower(pg_catalog.upper(name)), 'a;b', now() - interval '1 day' FROM t",
    "SELECT payload ->> 'kind', payload @> '{}'::jsonb, tags && ARRAY['a'] FROM t",
    "SELECT DISTINCT ON (a) a, b FROM t JOIN LATERAL (SELECT 1 AS x) AS l ON true",
    "SELECT a FROM t WHERE EXISTS (SELECT FROM u WHERE u.id = t.id) UNION ALL SELECT 2",
    "SELECT extract(year FROM at), x::numeric(10, 2), CASE WHEN a THEN 1 END FROM t",
    "SELECT * FROM generate_series(1, 10) AS g (n), unnest(ARRAY[1, 2]) AS u",
    "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY x), string_agg(a, ',') FROM t",
    "SELECT to_char(at, 'YYYY'), round(x, 2), substring(a FROM 1 FOR 2), a ILIKE $1 FROM t",
    "VALUES (1, 'a'), (2, 'b')",
]


@pytest.mark.parametrize(("rule", "text"), [(r, t) for r, ts in HOSTILE.items() for t in ts])
def test_a_hostile_statement_is_refused_by_its_rule(rule: str, text: str) -> None:
    with pytest.raises(StatementRefused, match=rf"^not run: .* \(rule {rule}\)$"):
        check_select(text)


@pytest.mark.parametrize("text", HARMLESS)
def test_an_ordinary_select_passes(text: str) -> None:
    check_select(text)
    check_plannable(text)


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO t (a) VALUES ($1)",
        "UPDATE t SET a = my_function($1) WHERE id = $2",
        "WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d",
        "SELECT * FROM t WHERE at > now() - interval $1",
        "(SELECT 1) UNION (SELECT 2)",
    ],
)
def test_what_is_only_explained_may_write(text: str) -> None:
    check_plannable(text)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("SELECT 1; SELECT 2", "S1"),
        ("CREATE INDEX ON t (a)", "S7"),
        ("EXPLAIN SELECT 1", "S48"),
        ("COPY t FROM STDIN", "S30"),
        ("SELECT pg_sleep($1)", "S41"),
        ("SELECT 1\0", "S50"),
    ],
)
def test_what_has_no_plan_is_refused(text: str, rule: str) -> None:
    with pytest.raises(StatementRefused, match=rf"\(rule {rule}\)$"):
        check_plannable(text)


SCHEMA = """
CREATE EXTENSION pg_trgm;
CREATE EXTENSION postgres_fdw;
CREATE TABLE t (a int, b text, at timestamptz);
CREATE FUNCTION wipe(t) RETURNS int LANGUAGE sql VOLATILE AS 'DELETE FROM t RETURNING 1';
CREATE FUNCTION sneak(int, int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE OPERATOR || (LEFTARG = int, RIGHTARG = int, FUNCTION = sneak);
CREATE VIEW trap AS SELECT wipe(t) FROM t;
CREATE VIEW trap_in_a_trap AS SELECT * FROM trap;
CREATE SERVER away FOREIGN DATA WRAPPER postgres_fdw;
CREATE FOREIGN TABLE far (a int) SERVER away;
"""


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("SELECT t.wipe FROM t", "S49"),
        ("SELECT * FROM t WHERE a || 1", "S49"),
        ("SELECT * FROM trap_in_a_trap", "S49"),
        ("SELECT * FROM far", "S26"),
    ],
)
def test_the_server_sees_what_the_parser_cannot(dsn: str, text: str, rule: str) -> None:
    check_select(text)
    with connect(dsn, autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
        with pytest.raises(StatementRefused, match=rf"\(rule {rule}\)$"):
            check_calls(connection, text)


def test_what_only_computes_passes_and_leaves_nothing(dsn: str) -> None:
    with connect(dsn, autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
        for text in (
            "SELECT x.a, y.a FROM t AS x JOIN t AS y USING (a) WHERE x.at > now() - $1::interval;",
            "SELECT similarity(b, $1), count(*), random() FROM t GROUP BY 1 LIMIT $2 -- end",
            "WITH r AS (SELECT lower(b) AS b FROM t WHERE b LIKE $1) SELECT * FROM r, r AS s",
        ):
            check_calls(connection, text)
        with pytest.raises(PlanningFailed, match="does not exist"):
            check_calls(connection, "SELECT gone FROM t")
        row = connection.execute("SELECT to_regclass('perfcore_asked')").fetchone()
    assert row == (None,)


def test_knows_parameters_without_a_space_between_them() -> None:
    check_plannable("SELECT * FROM t WHERE a IN ($1,$2) AND b = $3")
    check_select("SELECT * FROM t WHERE a IN ($1,$2) AND b = '$3,$4'")
    with pytest.raises(StatementRefused, match="rule S1"):
        check_plannable("SELECT $1,$2; DROP TABLE t; SELECT $3,$4")
