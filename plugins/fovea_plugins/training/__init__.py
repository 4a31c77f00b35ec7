"""Trains and evaluates the networks of the built-in plugins: one loop, one module per task."""
