"""Clips as frames."""
