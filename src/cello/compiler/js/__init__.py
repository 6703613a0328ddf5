"""JavaScript: one step of a cell, written to be read."""
