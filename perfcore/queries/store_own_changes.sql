-- What Perfcore itself did to indexes of the target, or is doing.
SELECT kind, object_name, index_oid, state
  FROM perfcore.changes
 WHERE target_id = %(target_id)s
   AND origin = 'perfcore'
   AND kind IN ('create_index', 'drop_index')
