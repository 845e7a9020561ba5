-- A plan, once a shape; of one seen before the latest costs and parameters are kept.
INSERT INTO perfcore.plans
       (target_id, fingerprint, queryid, shape_hash, is_generic, parameters_at, total_cost, plan,
        first_seen, last_seen)
VALUES (%(target_id)s, %(fingerprint)s, %(queryid)s, %(shape_hash)s,
        %(parameters_at)s::timestamptz IS NULL, %(parameters_at)s, %(total_cost)s, %(plan)s,
        clock_timestamp(), clock_timestamp())
ON CONFLICT (target_id, fingerprint, shape_hash) DO UPDATE
   SET last_seen = clock_timestamp(),
       queryid = excluded.queryid,
       is_generic = excluded.is_generic,
       parameters_at = excluded.parameters_at,
       total_cost = excluded.total_cost,
       plan = excluded.plan
RETURNING plan_id
