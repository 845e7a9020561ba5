UPDATE perfcore.statements
   SET last_seen = now()
 WHERE target_id = %(target_id)s AND queryid = ANY (%(queryids)s::bigint[])
