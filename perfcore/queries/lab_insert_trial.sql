-- In the store: a trial that waits for its turn.
INSERT INTO perfcore.trials
       (trial_id, target_id, suggestion_id, fingerprint, index_body, rewritten_sql, state, message)
VALUES (%(trial_id)s, %(target_id)s, %(suggestion_id)s, %(fingerprint)s, %(index_body)s,
        %(rewritten_sql)s, 'queued', 'waiting for its turn')
