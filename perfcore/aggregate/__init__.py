"""Tables and trends: rollups and deltas in, pandas data frames out."""
