"""The tool `explain_prediction`: where and why, and how far to trust that."""
