-- In the store: a rewrite whose rows were not the same in the lab; a person's decision stands.
UPDATE perfcore.suggestions
   SET evidence = CASE WHEN evidence = 'measured' THEN 'estimated' ELSE evidence END,
       body = CASE WHEN evidence = 'measured'
                   THEN pg_catalog.jsonb_set(body, '{evidence}', '"estimated"') ELSE body END,
       state_reason = %(reason)s,
       updated_at = now()
 WHERE suggestion_id = %(suggestion_id)s
   AND state = 'open'
