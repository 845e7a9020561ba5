-- Says that this transaction keeps the totals itself: its rows make none stale.
SELECT set_config('perfcore.totals', 'on', true)
