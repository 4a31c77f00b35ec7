"""The tool `segment_vessels`: vessels, arteries and veins of a retinal photograph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fovea.contract import Caveat, Context, NoArgs, Plugin, Result
from fovea.errors import NotApplicable, PluginUnavailable
from fovea.image import Photograph

if TYPE_CHECKING:
    from fovea_plugins.segmenter.vessels.reading import Reading, VesselReader

LEAST_SHARE, LARGEST_SHARE = 0.01, 0.30
"""Shares of the field of view that vessels plausibly cover; manual masks have 0.05 to 0.16."""

FEWEST_FIELD_PX = 450
"""Field diameters below this are magnified, and their finest vessels are gone."""

LARGELY_OPEN = 0.35
"""Share of the vessels that are neither artery nor vein from which the answer warns."""


class VesselSegmenter(Plugin[NoArgs]):
    """Outlines the retinal blood vessels, and tells arteries from veins where it can."""

    Args = NoArgs

    _reader: VesselReader | None = None

    def load(self, device: str) -> None:
        """Read both networks; they run on the processor whatever the device."""
        from fovea_plugins.segmenter.vessels.reading import VesselReader

        vessels, sides = (self.folder / weights.file for weights in self.manifest.weights)
        self._reader = VesselReader.load(vessels, sides)

    def unload(self) -> None:
        """Forget the networks."""
        self._reader = None

    def run(self, context: Context, args: NoArgs) -> Result:
        """Masks of vessels, arteries, veins and undecided vessels, in the frame of the original.

        Raises:
            NotApplicable: what was found covers an implausible share of the field.
        """
        if self._reader is None:
            raise PluginUnavailable(
                self.manifest.name,
                "The networks are not loaded",
                why="`load` was not called",
                fix="Call the plugin through the registry",
            )
        photograph = context.image
        found = self._reader.read(photograph, progress=context.progress)
        share = float(found.vessels.sum()) / max(int(photograph.field_of_view.sum()), 1)
        if not LEAST_SHARE <= share <= LARGEST_SHARE:
            raise NotApplicable(
                self.manifest.name,
                "No believable vessel tree was found",
                where=photograph.handle,
                why=f"{share:.1%} of the field answered like vessel; between "
                f"{LEAST_SHARE:.0%} and {LARGEST_SHARE:.0%} is plausible",
                fix="Use a sharper, evenly lit photograph",
            )
        parts = {name: _share_of(mask, found.vessels) for name, mask in _sides(found).items()}
        artifacts = [context.save_mask("vessels", found.vessels)]
        artifacts += [context.save_mask(name, mask) for name, mask in _sides(found).items()]
        grey = np.round(found.probability * 255.0).astype(np.uint8)
        picture = np.repeat(grey[..., None], 3, axis=2)
        artifacts.append(context.save_picture("vessel_probability", picture, "heatmap"))
        return Result(
            summary=f"Vessels outlined; they cover {share:.1%} of the field of view: "
            f"{parts['arteries']:.0%} of them arteries, {parts['veins']:.0%} veins, "
            f"{parts['vessels_undecided']:.0%} undecided.",
            artifacts=tuple(artifacts),
            caveats=_caveats(photograph, parts["vessels_undecided"]),
        )


def _sides(found: Reading) -> dict[str, np.ndarray]:
    return {
        "arteries": found.arteries,
        "veins": found.veins,
        "vessels_undecided": found.uncertain,
    }


def _share_of(part: np.ndarray, whole: np.ndarray) -> float:
    return float(part.sum()) / max(int(whole.sum()), 1)


def _caveats(photograph: Photograph, undecided: float) -> tuple[Caveat, ...]:
    caveats = []
    if photograph.grey:
        caveats.append(
            Caveat(
                code="grey_picture",
                text="The picture is grey: arteries and veins differ mostly in colour, so their "
                "separation is not to be relied on.",
            )
        )
    elif undecided > LARGELY_OPEN:
        caveats.append(
            Caveat(
                code="sides_undecided",
                text=f"For {undecided:.0%} of the vessels it is open whether they are arteries or "
                "veins.",
            )
        )
    if 2.0 * photograph.field_circle.radius < FEWEST_FIELD_PX:
        caveats.append(
            Caveat(
                code="coarse_picture",
                text="The photograph is coarse: its finest vessels cannot be seen.",
            )
        )
    return tuple(caveats)
