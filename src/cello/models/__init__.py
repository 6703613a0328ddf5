"""Frames as class scores."""
