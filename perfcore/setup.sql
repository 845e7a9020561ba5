-- What Perfcore needs on a server that it watches: PostgreSQL 13 to 18. Safe to run again.
--
--   psql -v ON_ERROR_STOP=1 -d DATABASE -f setup.sql     as a superuser (or your provider's admin)
--
-- It makes the role perfcore_reader, which reads and cannot change anything, installs
-- pg_stat_statements in this database, and sets what is off. It prints what is left to do.
-- Leave the rights on tables out with -v grant_select=off: then there are no plans, no statistics
-- for the twin and no copies for the lab; statements, tables, waits and settings stay.

\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = warning;
SELECT NOT EXISTS (SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = 'perfcore_reader') AS is_new,
       (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) AS is_superuser,
       pg_catalog.current_database() AS database
\gset
\if :{?grant_select}
\else
\set grant_select on
\endif

-- 1. The role. It has no password, so nobody can log in with one, until \password gives it one.
\if :is_new
CREATE ROLE perfcore_reader;
\endif
ALTER ROLE perfcore_reader LOGIN NOCREATEDB NOCREATEROLE CONNECTION LIMIT 2;
\if :is_superuser
ALTER ROLE perfcore_reader NOSUPERUSER NOREPLICATION NOBYPASSRLS;
\endif
ALTER ROLE perfcore_reader SET default_transaction_read_only = on;
ALTER ROLE perfcore_reader SET statement_timeout = '30s';
ALTER ROLE perfcore_reader SET lock_timeout = '1s';
ALTER ROLE perfcore_reader SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE perfcore_reader SET search_path = '';
GRANT CONNECT ON DATABASE :"database" TO perfcore_reader;

-- 2. Statistics of all roles, the texts of their statements, settings and sizes.
GRANT pg_monitor TO perfcore_reader;

-- 3. EXPLAIN needs SELECT on the tables of a statement; so do the statistics in pg_stats that
--    the twin plans with, and the copies of the lab. Only tables, and only of this database:
--    pg_read_all_data would read every database, and tables to come that nobody thought of.
\if :grant_select
DO $grant$
DECLARE
  part record;
BEGIN
  FOR part IN
    SELECT n.nspname AS schema
      FROM pg_catalog.pg_namespace n
     WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
       AND n.nspname NOT LIKE 'pg\_toast%' AND n.nspname NOT LIKE 'pg\_temp%'
  LOOP
    BEGIN
      EXECUTE pg_catalog.format('GRANT USAGE ON SCHEMA %I TO perfcore_reader', part.schema);
      EXECUTE pg_catalog.format(
        'GRANT SELECT ON ALL TABLES IN SCHEMA %I TO perfcore_reader', part.schema);
      EXECUTE pg_catalog.format(
        'GRANT SELECT ON ALL SEQUENCES IN SCHEMA %I TO perfcore_reader', part.schema);
    EXCEPTION WHEN insufficient_privilege THEN
      RAISE WARNING 'schema % is not yours to grant: ask its owner', part.schema;
    END;
  END LOOP;
  -- Tables that these owners make later are readable, too.
  FOR part IN
    SELECT DISTINCT n.nspname AS schema, pg_catalog.pg_get_userbyid(c.relowner) AS owner
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p')
       AND n.nspname NOT IN ('pg_catalog', 'information_schema')
       AND n.nspname NOT LIKE 'pg\_toast%' AND n.nspname NOT LIKE 'pg\_temp%'
  LOOP
    BEGIN
      EXECUTE pg_catalog.format(
        'ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA %I GRANT SELECT ON TABLES TO perfcore_reader',
        part.owner, part.schema);
    EXCEPTION WHEN insufficient_privilege THEN
      RAISE WARNING 'tables that % makes later in % must be granted by hand', part.owner,
        part.schema;
    END;
  END LOOP;
END
$grant$;
\endif

-- 4. The statistics of statements.
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
ALTER EXTENSION pg_stat_statements UPDATE;

-- 5. Settings, each only where it is not yet as it should be.
\if :is_superuser
-- Needs a restart of the server:
SELECT pg_catalog.format('ALTER SYSTEM SET shared_preload_libraries = %s',
         pg_catalog.string_agg(pg_catalog.quote_literal(library), ', ' ORDER BY place))
  FROM (SELECT pg_catalog.btrim(u.name, ' "'), u.place
          FROM pg_catalog.unnest(pg_catalog.string_to_array(
                 pg_catalog.current_setting('shared_preload_libraries'), ','))
               WITH ORDINALITY u(name, place)
        UNION ALL SELECT 'pg_stat_statements', 1000) AS l(library, place)
 WHERE library <> ''
   AND pg_catalog.current_setting('shared_preload_libraries') !~ '(^|[ ,"])pg_stat_statements($|[ ,"])'
HAVING count(*) > 0
\gexec
SELECT 'ALTER SYSTEM SET track_activity_query_size = ''4096'''
  FROM pg_catalog.pg_settings
 WHERE name = 'track_activity_query_size' AND setting::int < 4096
\gexec
-- Are taken over by the reload below:
SELECT pg_catalog.format('ALTER SYSTEM SET %I = %L', s.name, w.wanted)
  FROM (VALUES ('track_io_timing', 'on'), ('track_activities', 'on'), ('track_counts', 'on'))
         AS w(name, wanted)
  JOIN pg_catalog.pg_settings s ON s.name = w.name
 WHERE s.setting <> w.wanted
\gexec
SELECT 'ALTER SYSTEM SET compute_query_id = ''auto'''
 WHERE pg_catalog.current_setting('compute_query_id', true) = 'off'
\gexec
-- pg_stat_statements.track is unknown to the server until the library is loaded.
SELECT 'ALTER SYSTEM SET pg_stat_statements.track = ''top'''
  FROM pg_catalog.pg_settings
 WHERE name = 'pg_stat_statements.track' AND setting = 'none'
\gexec
SELECT pg_catalog.pg_reload_conf() AS reloaded \gset
\else
\echo 'You are not superuser: set these where your provider has its settings, then restart.'
\echo '  shared_preload_libraries: add pg_stat_statements;  track_io_timing = on'
\endif

-- 6. What is left to do.
SELECT count(*) FILTER (WHERE name = 'pg_stat_statements.max') = 0
       OR min(setting) FILTER (WHERE name = 'track_activity_query_size') ~ '^([0-9]{1,3}|[1-3][0-9]{3})$'
         AS wants_restart
  FROM pg_catalog.pg_settings
\gset
\if :wants_restart
\echo 'Restart the server: pg_stat_statements and track_activity_query_size begin with it.'
\endif
\if :is_new
\echo 'Give the role a password:  \\password perfcore_reader'
\endif
\echo 'Then check:  perfcore doctor'
