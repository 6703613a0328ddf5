"""Use a finished run: find it, read its model, predict, stream, evaluate."""
