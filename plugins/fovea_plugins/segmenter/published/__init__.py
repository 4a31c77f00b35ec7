"""Vessel networks published by others, for people who have the authors' weights."""
