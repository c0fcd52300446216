"""Answer → typed value, score, cost. Can be run again over what is stored without asking anything."""
