"""Answers questions about terms from the knowledge base."""
