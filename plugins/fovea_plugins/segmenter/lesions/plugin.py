"""The tool `segment_lesions`: microaneurysms, haemorrhages, hard and soft exudates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fovea.contract import (
    Artifact,
    Caveat,
    Context,
    Finding,
    Measurement,
    NoArgs,
    NotMeasured,
    Plugin,
    Result,
)
from fovea.errors import NotApplicable, PluginUnavailable
from fovea.image import Photograph
from fovea_plugins.segmenter.lesions.measures import STEMS, Item, measure, unmeasured
from fovea_plugins.segmenter.lesions.operating_points import POINTS
from fovea_plugins.segmenter.lesions.places import Places
from fovea_plugins.segmenter.lesions.table import write_table

if TYPE_CHECKING:
    from fovea_plugins.segmenter.lesions.reading import Kind, LesionReader

LARGEST_SHARE = {"hard_exudates": 0.2, "haemorrhages": 0.4, "soft_exudates": 0.06}
"""Twice the largest shares of the field in IDRiD, and more: something else was taken for it."""


@dataclass
class _Gathered:
    """What the kinds add up to."""

    items: list[Item] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    artifacts: list[Artifact] = field(default_factory=list)
    spoken: list[str] = field(default_factory=list)
    kinds: list[Kind] = field(default_factory=list)


class SegmentLesions(Plugin[NoArgs]):
    """Outlines and counts red and bright lesions, and says where they lie."""

    Args = NoArgs

    _reader: LesionReader | None = None

    def load(self, device: str) -> None:
        """Read the networks; they run on the processor whatever the device."""
        from fovea_plugins.segmenter.lesions.reading import LesionReader

        self._reader = LesionReader.load([self.folder / w.file for w in self.manifest.weights])

    def unload(self) -> None:
        """Forget the networks."""
        self._reader = None

    def run(self, context: Context, args: NoArgs) -> Result:
        """Masks, counts, areas and places of four kinds of lesion.

        Raises:
            NotApplicable: what answers like a lesion covers an implausible share of the field.
        """
        if self._reader is None:
            raise PluginUnavailable(
                self.manifest.name,
                "The networks are not loaded",
                why="`load` was not called",
                fix="Call the plugin through the registry",
            )
        image = context.image
        places = Places.from_context(context)
        gathered = _Gathered()
        for kind in self._reader.read(image, progress=context.progress):
            self._check_plausible(kind, image)
            _gather(kind, gathered, places, context)
        gathered.artifacts.append(write_table(gathered.kinds, places, context))
        items = gathered.items
        return Result(
            summary=_summary(gathered),
            findings=tuple(gathered.findings),
            measurements=tuple(item for item in items if isinstance(item, Measurement)),
            not_measured=tuple(item for item in items if isinstance(item, NotMeasured)),
            artifacts=tuple(gathered.artifacts),
            caveats=_caveats(gathered, image),
        )

    def _check_plausible(self, kind: Kind, image: Photograph) -> None:
        share = float(kind.mask.sum()) / max(int(image.field_of_view.sum()), 1)
        largest = LARGEST_SHARE.get(kind.name, 1.0)
        if share > largest:
            raise NotApplicable(
                self.manifest.name,
                "No believable lesions were outlined",
                where=image.handle,
                why=f"{share:.0%} of the field answered like {_plain(kind.name)}; up to "
                f"{largest:.0%} is plausible. Scars, drusen, glare or blood in the vitreous can "
                "do that",
                fix="Have a person look at the photograph",
            )


def _gather(kind: Kind, gathered: _Gathered, places: Places, context: Context) -> None:
    """Adds what one kind gives; a kind that the photograph is too coarse for gives reasons."""
    stem, image = STEMS[kind.name], context.image
    diameter = 2.0 * image.field_circle.radius
    least = POINTS[kind.name].smallest_field_px
    if diameter < least:
        reason = (
            f"The field is {diameter:.0f} pixels wide; below {least} the smallest lesions of this "
            "kind are lost between the pixels."
        )
        gathered.items += unmeasured(kind.name, reason)
        gathered.findings.append(Finding(concept=stem, state="not_assessable", detail=reason))
        gathered.spoken.append(f"{_plain(kind.name)} not assessable (too coarse)")
        return
    gathered.kinds.append(kind)
    gathered.items += measure(kind, places, image, context.eye)
    gathered.findings.append(_finding(kind))
    gathered.artifacts.append(context.save_mask(kind.name, kind.mask))
    grey = np.round(kind.probability * 255.0).astype(np.uint8)
    picture = np.repeat(grey[..., None], 3, axis=2)
    gathered.artifacts.append(context.save_picture(f"{stem}_probability", picture, "heatmap"))
    counts = _counts(kind)
    gathered.spoken.append(f"{_plain(kind.name)} {counts[1]} ({counts[0]}-{counts[2]})")


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _counts(kind: Kind) -> tuple[int, int, int]:
    cuts = kind.cuts
    few, counted, many = (len(kind.at(c)) for c in (cuts.strict, cuts.counted, cuts.lenient))
    return few, counted, many


def _finding(kind: Kind) -> Finding:
    """Present if a spot passes the strict cut; otherwise open, for the faint ones are missed."""
    point = POINTS[kind.name]
    few, counted, many = _counts(kind)
    highest = kind.spots[0].probability if kind.spots else float(kind.probability.max())
    known = (
        f"on held-out photographs of one camera {point.lesions_found:.0%} of the marked ones are "
        f"found, and at least one in {point.eyes_found} of {point.eyes} eyes that have any"
    )
    if few:
        detail = f"{counted} counted in the field (range {few} to {many})"
    elif counted:
        detail = f"{counted} counted, none of them beyond doubt; {known}"
    else:
        detail = f"none was outlined in the field; {known}"
    return Finding(
        concept=STEMS[kind.name],
        state="present" if few else "indeterminate",
        probability=min(1.0, highest),
        threshold=point.cuts.strict,
        detail=detail,
    )


def _summary(gathered: _Gathered) -> str:
    text = f"Lesions counted (range by cut): {', '.join(gathered.spoken)}."
    for item in gathered.items:
        if isinstance(item, Measurement) and item.name == "hard_exudate_fovea_distance":
            text += f" Nearest hard exudate: {item.value:.1f} disc diameters from the fovea."
    return f"{text} Small and faint ones are missed: a count of 0 excludes nothing."


def _caveats(gathered: _Gathered, image: Photograph) -> tuple[Caveat, ...]:
    caveats = [
        Caveat(
            code="lesions_missed",
            text="Small and faint lesions are missed, and lesions beyond the field are not seen: "
            "a count of 0 does not rule out disease.",
        ),
        Caveat(
            code="one_camera",
            text="The networks learned from one camera (IDRiD); on other cameras counts are not "
            "validated.",
        ),
    ]
    if image.grey:
        text = "The picture is grey: haemorrhages and exudates are told less well than in colour."
        caveats.append(Caveat(code="grey_picture", text=text))
    missing = [item for item in gathered.items if isinstance(item, NotMeasured)]
    reasons = {item.reason for item in missing if item.name.endswith("_quadrant_count")}
    if len(gathered.kinds) < len(POINTS):
        text = "The photograph is coarse: not every kind of lesion can be assessed."
        caveats.append(Caveat(code="coarse_picture", text=text))
    if not reasons:
        text = "Counts by quadrant hold for what this field shows, not for the whole retina."
        caveats.append(Caveat(code="part_of_the_retina", text=text))
    return tuple(caveats)
