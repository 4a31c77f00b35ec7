"""Optic disc and cup: masks, cup-to-disc ratios and disc size."""
