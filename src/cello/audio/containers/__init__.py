"""Sound containers: what the header promises compared with what the file holds, before libsndfile reads it."""
