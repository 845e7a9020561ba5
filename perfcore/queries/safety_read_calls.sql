-- What the statement behind the temporary view would call, by the server's own analysis: every
-- function, operator's function, aggregate and foreign table, through all views in it.
WITH RECURSIVE tree (action) AS (
    SELECT r.ev_action::pg_catalog.text
    FROM pg_catalog.pg_rewrite AS r
    WHERE r.ev_class = 'pg_temp.perfcore_asked'::pg_catalog.regclass
    UNION
    SELECT r.ev_action::pg_catalog.text
    FROM tree AS t
    CROSS JOIN LATERAL pg_catalog.regexp_matches(t.action, ':relid ([0-9]+)', 'g') AS m (found)
    JOIN pg_catalog.pg_class AS c ON c.oid = m.found[1]::pg_catalog.oid AND c.relkind = 'v'
    JOIN pg_catalog.pg_rewrite AS r ON r.ev_class = c.oid AND r.ev_type = '1'
)
SELECT DISTINCT 'function', n.nspname::pg_catalog.text, p.proname::pg_catalog.text,
    p.provolatile::pg_catalog.text, coalesce(e.extname, '')::pg_catalog.text
FROM tree AS t
CROSS JOIN LATERAL pg_catalog.regexp_matches(
    t.action, ':(?:funcid|opfuncid|aggfnoid|winfnoid) ([0-9]+)', 'g') AS m (found)
JOIN pg_catalog.pg_proc AS p ON p.oid = m.found[1]::pg_catalog.oid
JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
LEFT JOIN pg_catalog.pg_depend AS d
    ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid
    AND d.deptype = 'e'
LEFT JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid
UNION ALL
SELECT DISTINCT 'foreign table', n.nspname::pg_catalog.text, c.relname::pg_catalog.text, '', ''
FROM tree AS t
CROSS JOIN LATERAL pg_catalog.regexp_matches(t.action, ':relid ([0-9]+)', 'g') AS m (found)
JOIN pg_catalog.pg_class AS c ON c.oid = m.found[1]::pg_catalog.oid AND c.relkind = 'f'
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
