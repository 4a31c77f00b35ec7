"""The knowledge base that ships with Fovea: data, no code."""
