"""Every vessel measure of one picture, from plain arrays."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fovea.errors import BadArguments
from fovea.scale import Eye, Mask, Scale
from fovea_plugins.biomarkers.calibre import BIG_SIX, Side, VesselUsed
from fovea_plugins.biomarkers.definitions import Key, Vessels, keys
from fovea_plugins.biomarkers.fractal import Multifractal
from fovea_plugins.biomarkers.frame import Frame, canonical_frame
from fovea_plugins.biomarkers.masks import as_mask
from fovea_plugins.biomarkers.placing import NAMES, Disc, place
from fovea_plugins.biomarkers.trees import Tree, equivalents
from fovea_plugins.biomarkers.values import (
    PhysicalScale,
    Raw,
    Sheet,
    VesselMeasures,
    finished,
)
from fovea_plugins.regions import Landmarks

MOST_OF_THE_FIELD = 0.5
"""A mask that covers more than this share of the field is no vessel mask."""

Masks = dict[Vessels, Mask | str]


def measure(
    vessels: NDArray[Any],
    *,
    arteries: NDArray[Any] | None = None,
    veins: NDArray[Any] | None = None,
    disc: NDArray[Any] | Disc | None = None,
    fovea: tuple[float, float] | None = None,
    field: NDArray[Any] | None = None,
    probability: NDArray[Any] | None = None,
    scale: PhysicalScale | None = None,
    eye: Eye | None = None,
    fovea_seen: bool = True,
) -> VesselMeasures:
    """Every measure of the vessels in a picture, and why not for what cannot be measured.

    All masks are (H, W) in one frame; bool, or 0 and 1, or 0 and 255. Nothing is resampled.
    Values of a mirrored or quarter-turned picture are the same to the last bit.

    Args:
        vessels: All vessels.
        arteries: Those that are arteries; None leaves them, CRAE and AVR unmeasured.
        veins: Those that are veins; None leaves them, CRVE and AVR unmeasured.
        disc: The optic disc as a mask or as `Disc(x, y, diameter_px)`. It is left out of all
            regions and places the zones A, B and C around it.
        fovea: The fovea (x, y) in pixels, pixel centres at whole numbers. With the disc it
            places quadrants and ETDRS rings.
        field: The field of view; None: the whole picture.
        probability: Of being vessel, from 0 to 1 (uint8: to 255), whose threshold gave
            `vessels`: each value then gets the range over thresholds moved by 0.2 either way.
        scale: Pixel scale; None: that of a disc-fovea distance of 4.76 mm (SD 0.34 mm), where
            both places are known.
        eye: `OD`, `OS` or None where it is not known: then the picture is taken to be upright.
        fovea_seen: False where the fovea was put at its usual place: it then gives a
            direction, but neither a distance nor a scale.

    Raises:
        BadArguments: an argument other than a mask is out of its range. What is wrong with a
            mask is the reason of the measures that need it.
    """
    _check(fovea, scale, eye)
    masks: Masks = {"all": as_mask(vessels, "vessel")}
    masks["artery"], masks["vein"] = (
        f"No {name} mask was given" if mask is None else as_mask(mask, name)
        for name, mask in (("artery", arteries), ("vein", veins))
    )
    whole = masks["all"]
    if isinstance(whole, str):
        return _nothing(whole)
    seen = np.ones(whole.shape, bool) if field is None else as_mask(field, "field of view")
    seen = seen if isinstance(seen, str) else _fitting(seen, whole, "field of view")
    if isinstance(seen, str):
        return _nothing(seen)
    share = np.count_nonzero(whole & seen) / np.count_nonzero(seen)
    if not 0.0 < share <= MOST_OF_THE_FIELD:
        return _nothing(
            f"The vessel mask covers {share:.0%} of the field of view: that is no vessel tree"
            if share
            else "No vessel lies in the field of view"
        )
    for side in ("artery", "vein"):
        masks[side] = _fitting(masks[side], whole, side)
    where, no_disc = _disc(disc, whole)
    landmarks = Landmarks(
        disc_xy=(where.x, where.y) if where else None,
        disc_diameter_px=where.diameter_px if where else None,
        fovea_xy=fovea,
        eye=eye,
        fovea_seen=fovea_seen,
    )
    if scale is None and (derived := landmarks.scale(None)):
        scale = PhysicalScale(derived.um_per_px, derived.relative_sd)
    picture = _Picture(masks, seen, where, landmarks, scale)
    if not picture.placed.regions:
        return _nothing("The optic disc covers the field of view")
    if no_disc:
        picture.placed.missing |= dict.fromkeys(picture.placed.missing, no_disc)
    return picture.measures(probability)


class _Picture:
    """Masks and regions of one picture in the one turn in which all is measured."""

    def __init__(
        self,
        masks: Masks,
        seen: Mask,
        disc: Disc | None,
        landmarks: Landmarks,
        scale: PhysicalScale | None,
    ) -> None:
        self.seen, self.disc, self.scale = seen, disc, scale
        given = [mask for mask in masks.values() if not isinstance(mask, str)]
        self.frame = canonical_frame(*given, seen).whole
        self.masks: Masks = {
            kind: mask if isinstance(mask, str) else np.ascontiguousarray(self.frame.of(mask))
            for kind, mask in masks.items()
        }
        grid = Scale(scale.um_per_px, scale.relative_sd or 0.0, "dicom") if scale else None
        self.placed = place(seen, disc, landmarks, grid, self.frame)
        self.kinds: tuple[Vessels, ...] = tuple(
            kind for kind, mask in masks.items() if not isinstance(mask, str)
        )

    def measures(self, probability: NDArray[Any] | None) -> VesselMeasures:
        """Everything, with intervals where there is a probability."""
        sheet, used, spectra = self._sheet(self.masks)
        variants = tuple(self._sheet(masks)[0] for masks in self._variants(probability))
        regions = tuple(region.name for region in self.placed.regions)
        return VesselMeasures(
            finished(
                keys(NAMES),
                sheet,
                variants,
                scale=self.scale,
                disc_diameter_px=self.disc.diameter_px if self.disc else None,
            ),
            used,
            spectra,
            regions,
            self.scale,
        )

    def _sheet(
        self, masks: Masks
    ) -> tuple[
        Sheet,
        dict[Literal["artery", "vein"], tuple[VesselUsed, ...]],
        dict[tuple[Vessels, str], Multifractal],
    ]:
        sheet: dict[Key, Raw | str] = {}
        trees: dict[Vessels, Tree | str] = {}
        spectra: dict[tuple[Vessels, str], Multifractal] = {}
        for kind in ("all", "artery", "vein"):
            trees[kind] = tree = self._tree(kind, masks)
            if isinstance(tree, str):
                continue
            sheet |= tree.values()
            spectra |= {(kind, name): s for name, s in tree.spectra.items() if s is not None}
        found: dict[Side, list[VesselUsed] | str] = {}
        for side in ("artery", "vein"):
            tree = trees[side]
            found[side] = tree if isinstance(tree, str) else tree.in_zone_b()
        sheet |= equivalents(found, self.scale.um_per_px if self.scale else None)
        for key in keys(NAMES):
            if key not in sheet:
                sheet[key] = self._why_not(key, masks)
        used = {
            side: tuple(_back(vessel, self.frame) for vessel in vessels[:BIG_SIX])
            for side, vessels in found.items()
            if not isinstance(vessels, str)
        }
        return sheet, used, spectra

    def _tree(self, kind: Vessels, masks: Masks) -> Tree | str:
        mask = masks[kind]
        if isinstance(mask, str):
            return mask
        arteries, veins = masks["artery"], masks["vein"]
        sides = None
        if kind == "all" and not (isinstance(arteries, str) or isinstance(veins, str)):
            sides = arteries, veins
        return Tree(mask, kind, self.placed, self.frame, self.seen, sides)

    def _why_not(self, key: Key, masks: Masks) -> str:
        mask = masks[key.vessels]
        if isinstance(mask, str):
            return mask
        return self.placed.missing.get(key.region, "It is given in other units")

    def _variants(self, probability: NDArray[Any] | None) -> list[Masks]:
        whole = self.masks["all"]
        if probability is None or isinstance(whole, str):
            return []
        # OpenCV alone would be a third of the memory of measuring a mask.
        from fovea_plugins.biomarkers.outlines import by_threshold, with_sides

        grey = np.ascontiguousarray(self.frame.of(_probability(probability, self.seen)))
        narrow, wide = by_threshold(whole, grey)
        names = [kind for kind in self.kinds if kind != "all"]
        sides = tuple(mask for kind in names if not isinstance(mask := self.masks[kind], str))
        moved: list[Masks] = []
        for vessels, parts in zip(
            (narrow, wide), with_sides(whole, sides, narrow, wide), strict=True
        ):
            made: Masks = dict(self.masks)
            pieces: dict[Vessels, Mask] = {"all": vessels, **dict(zip(names, parts, strict=True))}
            for kind, mask in pieces.items():
                made[kind] = mask if mask.any() else "Nothing is left at a higher threshold"
            moved.append(made)
        return moved


def _check(fovea: tuple[float, float] | None, scale: PhysicalScale | None, eye: Eye | None) -> None:
    if fovea is not None and not (len(fovea) == 2 and np.isfinite(fovea).all()):
        raise _bad("fovea", fovea, "a finite point (x, y), or None")
    if eye not in ("OD", "OS", None):
        raise _bad("eye", eye, "`OD`, `OS` or None")
    if scale is None:
        return
    if not (np.isfinite(scale.um_per_px) and scale.um_per_px > 0):
        raise _bad("scale.um_per_px", scale.um_per_px, "a positive number of micrometres")
    sd = scale.relative_sd
    if sd is not None and not (np.isfinite(sd) and 0 <= sd < 0.5):
        raise _bad("scale.relative_sd", sd, "a share from 0 to 0.5, or None")


def _bad(where: str, value: object, wanted: str) -> BadArguments:
    return BadArguments(
        "measure_biomarkers",
        f"`{where}` is {value!r}",
        where="measure",
        why="The vessels cannot be measured with it",
        fix=f"Give {wanted}",
    )


def _fitting(mask: Mask | str, whole: Mask, name: str) -> Mask | str:
    if isinstance(mask, str) or mask.shape == whole.shape:
        return mask
    return f"The {name} mask has shape {mask.shape}, the vessel mask {whole.shape}"


def _disc(disc: NDArray[Any] | Disc | None, whole: Mask) -> tuple[Disc | None, str]:
    """The disc, or why it cannot be used."""
    if disc is None:
        return None, ""
    if isinstance(disc, Disc):
        diameter = 1.0 if disc.diameter_px is None else disc.diameter_px
        if not (np.isfinite([disc.x, disc.y, diameter]).all() and diameter > 0):
            raise _bad("disc", disc, "a finite centre, and a positive diameter or None")
        return disc, ""
    mask = _fitting(as_mask(disc, "disc"), whole, "disc")
    return (None, mask) if isinstance(mask, str) else (Disc.of_mask(mask), "")


def _probability(probability: NDArray[Any], whole: Mask) -> NDArray[np.float32]:
    given = np.asarray(probability)
    if given.shape != whole.shape:
        raise _bad("probability", f"shape {given.shape}", f"shape {whole.shape}")
    if given.dtype == np.uint8:
        return given.astype(np.float32) / 255.0
    if given.dtype.kind != "f" or not (given.min() >= 0.0 and given.max() <= 1.0):
        raise _bad("probability", given.dtype.name, "numbers from 0 to 1, or uint8 to 255")
    return given.astype(np.float32)


def _back(vessel: VesselUsed, frame: Frame) -> VesselUsed:
    (x, y), path = frame.back(np.array([[vessel.x, vessel.y]]))[0], frame.back(vessel.path)
    return VesselUsed(float(x), float(y), vessel.width_px, vessel.length_px, path)


def _nothing(reason: str) -> VesselMeasures:
    sheet = dict.fromkeys(keys(NAMES), reason)
    found = finished(keys(NAMES), sheet, (), scale=None, disc_diameter_px=None)
    return VesselMeasures(found, {}, {}, (), None)
