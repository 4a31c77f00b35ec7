"""Measures disc and cup outlines on photographs that the weights were not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def evaluate(root: Path, weights: Path | None) -> dict[str, Any]:
    """x"""
    return {}
