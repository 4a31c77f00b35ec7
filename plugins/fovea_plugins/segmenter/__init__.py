"""Plugins that return masks of retinal structures."""
