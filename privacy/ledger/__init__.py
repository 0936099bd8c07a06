"""What was spent, on disk: a hash-chained list of entries that refuses what exceeds the budget."""
