"""Kernels called on arrays: each checks its arguments, allocates, calls."""
