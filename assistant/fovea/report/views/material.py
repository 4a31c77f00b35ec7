"""What a view of a report draws on: the report, its evidence and the photographs."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from fovea.contract import read_mask
from fovea.evidence import Evidence
from fovea.image import Mask, Photograph, Pixels
from fovea.overlay import colour_of, draw_overlay
from fovea.report.model import Report

PICTURE_SIDE_PX = 1000
"""Longest side of a picture inside a report; the photograph itself stays as it is."""


@dataclass(frozen=True)
class Material:
    """A report with the evidence and the photographs that it is about."""

    report: Report
    evidence: Mapping[str, Evidence]
    photographs: Mapping[str, Photograph]

    def cited(self) -> dict[str, Evidence]:
        """The evidence of the report, in the order of its ids."""
        ids = sorted(
            (i for i in self.report.evidence if i in self.evidence), key=lambda i: int(i[1:])
        )
        return {identifier: self.evidence[identifier] for identifier in ids}

    def masks(self, handle: str) -> dict[str, tuple[Evidence, Mask]]:
        """The masks (H, W) of one photograph by name, each with its evidence."""
        found: dict[str, tuple[Evidence, Mask]] = {}
        for piece in self.cited().values():
            for artifact in piece.result.artifacts if piece.images == (handle,) else ():
                if artifact.kind == "mask" and artifact.name not in found:
                    found[artifact.name] = piece, read_mask(artifact.path)
        return found

    def caption(self, handle: str) -> str:
        """What stands below the picture of a photograph, before its legend."""
        outlined = ", with everything that was outlined:" if self.masks(handle) else ""
        return f"{handle}{outlined or ', where nothing was outlined'}"

    def legend(self, handle: str) -> list[tuple[str, str]]:
        """Pairs of what was outlined in a photograph, in words, and its colour as `#rrggbb`."""
        named = {name.replace("_", " "): colour_of(name) for name in self.masks(handle)}
        return [(name, "#{:02x}{:02x}{:02x}".format(*rgb)) for name, rgb in named.items()]

    def overlay(self, handle: str, evidence_id: str | None = None) -> bytes | None:
        """A JPEG of the photograph with all masks, or those of one piece of evidence.

        None when that piece has no mask. Each is drawn once.
        """
        key = handle, evidence_id
        if key not in self._drawn:
            self._drawn[key] = self._draw(handle, evidence_id)
        return self._drawn[key]

    @functools.cached_property
    def _drawn(self) -> dict[tuple[str, str | None], bytes | None]:
        return {}

    def _draw(self, handle: str, evidence_id: str | None) -> bytes | None:
        masks = {
            name: mask
            for name, (piece, mask) in self.masks(handle).items()
            if evidence_id in (None, piece.id)
        }
        if not masks and evidence_id:
            return None
        return _jpeg(draw_overlay(self.photographs[handle].pixels, masks))


def _jpeg(pixels: Pixels) -> bytes:
    share = min(1.0, PICTURE_SIDE_PX / max(pixels.shape[:2]))
    small = cv2.resize(pixels, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
    return np.asarray(encoded).tobytes()
