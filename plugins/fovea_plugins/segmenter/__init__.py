"""Plugins that outline structures."""
