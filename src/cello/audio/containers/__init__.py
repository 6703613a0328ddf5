"""Sound containers: what the header declares compared with what the file holds, before libsndfile reads it."""
