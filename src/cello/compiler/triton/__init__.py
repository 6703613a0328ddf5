"""GPU back end: one Triton kernel for all steps of a cell, forward and backward; the only folder that imports triton."""
