"""Compile a cell to C and run it on the CPU."""
