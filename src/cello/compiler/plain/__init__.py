"""Run a cell as torch operations, differentiated by autograd."""
