"""Fovea: ask about a retinal photograph, get measured and cited answers.

Importing this package loads nothing heavy; each name is imported at first use.
"""

from __future__ import annotations

import logging
from typing import Any

__version__ = "0.1.0"

# A library stays silent unless its user asks; the command line logs to a file.
logging.getLogger("fovea").addHandler(logging.NullHandler())

_LAZY = {
    "Assistant": "fovea.assistant",
    "FoveaError": "fovea.errors",
    "Settings": "fovea.settings",
    "open_photograph": "fovea.image",
}

__all__ = ["Assistant", "FoveaError", "Settings", "__version__", "open_photograph"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module `fovea` has no attribute `{name}`")


def __dir__() -> list[str]:
    return __all__
