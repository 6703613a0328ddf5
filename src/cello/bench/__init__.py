"""Measure how long a layer takes on this machine, beside torch's own layers."""
