-- The settings that advice is about, in their own units; one that this role may not see is absent.
SELECT s.name::pg_catalog.text AS name, s.setting AS text, coalesce(s.unit, '') AS unit,
       s.context AS context, s.pending_restart AS is_pending_restart
  FROM pg_catalog.pg_settings s
 WHERE s.name = ANY (%(names)s::pg_catalog.text[])
