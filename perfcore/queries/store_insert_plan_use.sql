INSERT INTO perfcore.plan_uses
       (plan_id, target_id, fingerprint, is_generic, parameters_at, seen_from, seen_to)
VALUES (%(plan_id)s, %(target_id)s, %(fingerprint)s, %(is_generic)s, %(parameters_at)s,
        %(seen_at)s, %(seen_at)s)
