-- For this transaction the search path that the session would have, had it not emptied it.
SELECT pg_catalog.set_config('search_path', s.reset_val, true)
  FROM pg_catalog.pg_settings s
 WHERE s.name OPERATOR(pg_catalog.=) 'search_path'
