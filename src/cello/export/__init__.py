"""Whole models written in other forms."""
