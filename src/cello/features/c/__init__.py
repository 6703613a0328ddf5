"""Clips to frames in one pass of compiled C."""
