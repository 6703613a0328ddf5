"""Cells on a GPU: one Triton kernel for all steps forward, one for all backward."""
