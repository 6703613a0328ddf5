"""Render cells to ONNX: one step from the graph, and the scan over time."""
