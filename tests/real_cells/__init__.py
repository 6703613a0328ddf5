"""Cells of papers and repositories, each in the language and as an eager loop."""
