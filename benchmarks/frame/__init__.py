"""What every row shares: building, warm-up, turns, floors, the table, the file of results and the baselines."""
