"""Equations as a scan over time; knows nothing about sound."""
