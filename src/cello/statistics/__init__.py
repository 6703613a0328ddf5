"""Decide from predictions what the data can tell: intervals, comparisons, ranks. Pure: numpy and scipy only."""
