"""Two photographs: one eye at two visits, or both eyes of a person."""
