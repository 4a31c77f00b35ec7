"""The tool `segment_optic_disc`: disc, cup, cup-to-disc ratios and disc size."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fovea.contract import (
    Caveat,
    Context,
    Interval,
    Measurement,
    NoArgs,
    NotMeasured,
    Plugin,
    Result,
)
from fovea.errors import NotApplicable, PluginUnavailable
from fovea.image import Photograph, Scale
from fovea_plugins.segmenter.optic_disc.reading import MIN_CERTAINTY, Reading, read_disc

if TYPE_CHECKING:
    from fovea_plugins.segmenter.optic_disc.network import DiscNetwork

MIN_INSIDE_SHARE = 0.9
DIAMETERS = (0.05, 0.4)
"""Disc diameters as a share of the field: wider than fields of 60 to 20 degrees ask for."""

CDR_ERRORS = {"vertical_cdr": 0.11, "horizontal_cdr": 0.12}
"""Half-widths that held 92 % of the ratios of DRISHTI-GS out of fold, see MODEL_CARD.md."""

DIAMETER_ERROR = 0.2
"""Relative, held 91 % on IDRiD by weights that saw only DRISHTI-GS: a camera never seen."""


class SegmentOpticDisc(Plugin[NoArgs]):
    """Outlines disc and cup around the disc centre that the quality gate found."""

    Args = NoArgs

    _network: DiscNetwork | None = None

    def load(self, device: str) -> None:
        """Read the networks; they run on the processor whatever the device."""
        from fovea_plugins.segmenter.optic_disc.network import DiscNetwork

        self._network = DiscNetwork.read([self.folder / one.file for one in self.manifest.weights])

    def unload(self) -> None:
        """Forget the network."""
        self._network = None

    def run(self, context: Context, args: NoArgs) -> Result:
        """Masks, ratios and sizes. Raises `NotApplicable` when no whole disc is in the field."""
        image = context.image
        x, y = context.measured("disc_x"), context.measured("disc_y")
        if x is None or y is None:
            raise self._not_applicable("No optic disc was found in the field")
        context.progress("Outlining the optic disc")
        found = self._read(image, np.array([x.value, y.value]))
        context.check_cancelled()
        disc = found.disc.mask((image.height, image.width)) & image.field_of_view
        masks = [context.save_mask("optic_disc", disc)]
        if found.cup:
            cup = found.cup.mask((image.height, image.width)) & disc
            masks.append(context.save_mask("optic_cup", cup))
        items = [*_ratios(found, context), *_diameters(found, context)]
        items.append(_area(found, context.scale, context))
        measured = tuple(item for item in items if isinstance(item, Measurement))
        return Result(
            summary=_summary(measured),
            measurements=measured,
            not_measured=tuple(item for item in items if isinstance(item, NotMeasured)),
            artifacts=tuple(masks),
            caveats=_caveats(image),
        )

    def _read(self, image: Photograph, place_xy: np.ndarray) -> Reading:
        if self._network is None:
            raise PluginUnavailable(
                self.manifest.name,
                "The network is not loaded",
                why="`load` was not called",
                fix="Call the plugin through the registry",
            )
        column, row = np.rint(place_xy).astype(int)
        within = 0 <= column < image.width and 0 <= row < image.height
        if not within or not image.field_of_view[row, column]:
            raise self._not_applicable("The place given for the optic disc is outside the field")
        found = read_disc(self._network, image, place_xy)
        if found is None or found.certainty < MIN_CERTAINTY:
            raise self._not_applicable("No optic disc is seen at the place given for it")
        share = found.disc.diameter / (2.0 * image.field_circle.radius)
        if not DIAMETERS[0] <= share <= DIAMETERS[1]:
            raise self._not_applicable(
                f"What is seen there measures {share:.0%} of the field: no disc is that size"
            )
        if found.disc.share_inside(image.field_of_view) < MIN_INSIDE_SHARE:
            raise self._not_applicable("The optic disc is cut off by the edge of the field")
        return found

    def _not_applicable(self, why: str) -> NotApplicable:
        return NotApplicable(
            self.manifest.name,
            "The optic disc cannot be outlined in this photograph",
            why=why,
            fix="Take or choose a photograph that shows the whole optic disc in focus",
        )


def _caveats(image: Photograph) -> tuple[Caveat, ...]:
    caveats = [
        Caveat(
            code="cup_without_depth",
            text="The cup is judged in one photograph, without depth, by a network that learned "
            "from large cups: on other cameras a healthy cup is read 0.1 to 0.2 too large.",
        )
    ]
    if image.grey:
        text = "The picture is grey: the cup edge is less certain than in colour."
        caveats.append(Caveat(code="grey_picture", text=text))
    return tuple(caveats)


def _summary(measured: tuple[Measurement, ...]) -> str:
    ratios = []
    for item in measured:
        if item.name.endswith("_cdr") and item.interval:
            low, high = item.interval.low, item.interval.high
            name = item.name.removesuffix("_cdr")
            ratios.append(f"{name} cup-to-disc ratio {item.value:.2f} ({low:.2f}-{high:.2f})")
    if not ratios:
        return "Optic disc outlined. No cup is seen in it, so there is no cup-to-disc ratio."
    text = ", ".join(ratios)
    return f"Optic disc outlined; {text}. The cup is judged in one photograph, without depth."


def _ratios(found: Reading, context: Context) -> list[Measurement | NotMeasured]:
    made: list[Measurement | NotMeasured] = []
    for name, value in (
        ("vertical_cdr", found.vertical_ratio),
        ("horizontal_cdr", found.horizontal_ratio),
    ):
        if value is None:
            made.append(NotMeasured(name=name, reason="No cup is seen in the optic disc."))
            continue
        error = CDR_ERRORS[name]
        made.append(
            Measurement(
                name=name,
                value=round(value, 4),
                unit="1",
                eye=context.eye,
                method="height or width of the cup over that of the disc; both outlined by a "
                "convolutional network",
                interval=Interval(
                    low=max(0.0, value - error),
                    high=min(1.0, value + error),
                    level=0.9,
                    how=f"conformal half-width {error:.2f} from the errors against experts on 50 "
                    "photographs of DRISHTI-GS by 5-fold; held 92 % there, not known elsewhere",
                ),
            )
        )
    return made


def _diameters(found: Reading, context: Context) -> tuple[Measurement, Measurement]:
    width, height = found.disc.extent
    made = []
    for name, value in (("disc_diameter_vertical", height), ("disc_diameter_horizontal", width)):
        made.append(
            Measurement(
                name=name,
                value=round(value, 1),
                unit="px",
                eye=context.eye,
                method="extent of the smoothed outline of the disc",
                interval=Interval(
                    low=value * (1 - DIAMETER_ERROR),
                    high=value * (1 + DIAMETER_ERROR),
                    level=0.9,
                    how="relative error on IDRiD of weights trained on another camera only",
                ),
            )
        )
    return made[0], made[1]


def _area(found: Reading, scale: Scale | None, context: Context) -> Measurement | NotMeasured:
    if scale is None:
        return NotMeasured(name="disc_area", reason="The pixel scale is not known.")
    value = found.disc.area * (scale.um_per_px / 1000.0) ** 2
    relative = 2 * math.hypot(1.645 * scale.relative_sd, DIAMETER_ERROR)
    source = "the file" if scale.source == "dicom" else "the disc-fovea distance (4.76 mm)"
    return Measurement(
        name="disc_area",
        value=round(value, 4),
        unit="mm2",
        eye=context.eye,
        method=f"area of the smoothed outline of the disc; scale from {source}",
        interval=Interval(
            low=max(0.0, value * (1 - relative)),
            high=value * (1 + relative),
            level=0.9,
            how="twice the relative errors of pixel scale and diameter, in quadrature",
        ),
    )
