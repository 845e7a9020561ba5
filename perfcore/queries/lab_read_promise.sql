-- In the store: the suggestion that proposed an index.
SELECT body
  FROM perfcore.suggestions
 WHERE suggestion_id = %(suggestion_id)s
   AND kind = 'index'
