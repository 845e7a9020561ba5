-- Forget the plans of a suggestion that the round proposes without any.
DELETE FROM perfcore.suggestion_plans AS p
 USING perfcore.suggestions AS s
 WHERE p.suggestion_id = %(suggestion_id)s AND s.suggestion_id = p.suggestion_id
   AND s.state <> 'applied'
