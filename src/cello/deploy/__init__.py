"""Use exported models with numpy and onnxruntime alone."""
