"""A cell is its equations."""
