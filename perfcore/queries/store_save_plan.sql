-- A plan, once a shape; of one seen before the latest costs and values are kept.
INSERT INTO perfcore.plans
       (target_id, fingerprint, queryid, shape_hash, is_generic, total_cost, plan,
        first_seen, last_seen)
VALUES (%(target_id)s, %(fingerprint)s, %(queryid)s, %(shape_hash)s,
        %(is_generic)s, %(total_cost)s, %(plan)s,
        clock_timestamp(), clock_timestamp())
ON CONFLICT (target_id, fingerprint, shape_hash) DO UPDATE
   SET last_seen = clock_timestamp(),
       queryid = excluded.queryid,
       is_generic = excluded.is_generic,
       total_cost = excluded.total_cost,
       plan = excluded.plan
RETURNING plan_id
