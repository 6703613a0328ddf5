"""Run compiled GPU kernels on the CPU: an emulator of the PTX that Triton makes, as a test instrument."""
