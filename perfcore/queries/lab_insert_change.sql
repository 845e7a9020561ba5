-- In the store: the intent, written before anything happens on the target.
INSERT INTO perfcore.changes
       (change_id, target_id, suggestion_id, kind, object_name, ddl, undo, state, fingerprints,
        index_body)
VALUES (%(change_id)s, %(target_id)s, %(suggestion_id)s, %(kind)s, %(object_name)s, %(ddl)s,
        %(undo)s, 'intended', %(fingerprints)s, %(index_body)s)
