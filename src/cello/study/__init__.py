"""Plan, store, match and merge studies: tables of runs that answer one question."""
