"""Report a study: tables, plots, sentences. Imports no torch."""
