"""Language model backends: what they share, and the deterministic one."""
