-- In the store: trials whose process is gone.
UPDATE perfcore.trials
   SET state = 'failed', message = 'interrupted: Perfcore was restarted', finished_at = now()
 WHERE state IN ('queued', 'running')
