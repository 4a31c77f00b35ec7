"""What counts as a mask, wherever one is given."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.scale import Mask


def as_mask(mask: NDArray[Any], name: str) -> Mask | str:
    """A mask (H, W) as bool, or what is wrong with it."""
    mask = np.asarray(mask)
    if mask.ndim != 2 or 0 in mask.shape:
        return f"The {name} mask has shape {mask.shape}, not (height, width)"
    if mask.dtype != np.bool_:
        if mask.dtype.kind not in "iuf":
            return f"The {name} mask holds {mask.dtype}, not True and False"
        high = mask.max()
        if not (high in (0, 1, 255) and ((mask == 0) | (mask == high)).all()):
            return f"The {name} mask holds other values than 0 and 1, or 0 and 255"
        mask = mask != 0
    return mask if mask.any() else f"The {name} mask is empty"
