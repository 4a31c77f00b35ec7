"""Numbers that describe the vessel tree."""
