-- For this transaction values under their names: bound, so that no list of statements shows them.
SELECT pg_catalog.set_config(given.name, given.value, true)
  FROM ROWS FROM (pg_catalog.unnest(%(names)s::pg_catalog.text[]),
                  pg_catalog.unnest(%(values)s::pg_catalog.text[])) AS given (name, value)
