-- An index that appeared or went without Perfcore's doing.
INSERT INTO perfcore.changes
       (change_id, target_id, kind, object_name, ddl, undo, origin, state, index_oid,
        index_bytes, started_at, applied_at)
VALUES (gen_random_uuid(), %(target_id)s, %(kind)s, %(object_name)s, %(ddl)s, %(undo)s,
        'by hand', 'applied', %(index_oid)s, %(index_bytes)s, now(), now())
