-- In the store: a suggestion is no longer only an estimate.
UPDATE perfcore.suggestions
   SET evidence = 'measured',
       body = pg_catalog.jsonb_set(body, '{evidence}', '"measured"'),
       updated_at = now()
 WHERE suggestion_id = %(suggestion_id)s
   AND evidence = 'estimated'
