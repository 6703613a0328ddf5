"""Use an exported model without the workbench: load, predict, stream, serve."""
