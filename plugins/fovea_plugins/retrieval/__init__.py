"""Similar cases from the archive."""
