"""What Redis commands mean: a table, and pure functions of a slot's cells. Knows nothing of distribution."""
