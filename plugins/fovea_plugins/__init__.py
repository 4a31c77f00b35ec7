"""The plugins that ship with Fovea."""
