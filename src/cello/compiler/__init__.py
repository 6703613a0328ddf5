"""Turn a cell's equations into a scan over time, on any of several back ends."""
