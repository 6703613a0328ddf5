"""Choose settings for every row of a study with equal budgets."""
