"""The report: compiled from evidence, checked, rendered. No language model decides anything."""
