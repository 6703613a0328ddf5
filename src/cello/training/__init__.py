"""Train one run from a config and a seed."""
