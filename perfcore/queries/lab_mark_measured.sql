-- In the store: a suggestion is no longer only an estimate, where its gain was measured, and no
-- longer marked by a trial before.
UPDATE perfcore.suggestions
   SET evidence = CASE WHEN %(is_measured)s AND evidence = 'estimated'
                       THEN 'measured' ELSE evidence END,
       body = CASE WHEN %(is_measured)s AND evidence = 'estimated'
                   THEN pg_catalog.jsonb_set(body, '{evidence}', '"measured"') ELSE body END,
       state_reason = CASE WHEN state_reason LIKE %(not_same)s THEN '' ELSE state_reason END,
       updated_at = now()
 WHERE suggestion_id = %(suggestion_id)s
   AND (evidence = 'estimated' OR state_reason LIKE %(not_same)s)
