"""Infer from predictions: intervals, comparisons, ranks. Imports numpy and scipy only."""
