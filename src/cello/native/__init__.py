"""Compile C with the machine's compiler, once, and keep the libraries."""
