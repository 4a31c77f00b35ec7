"""Everything that is looked at once in a picture, before anything is judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fovea.image import Photograph, View
from fovea_plugins.quality.landmarks import Disc, Fovea, locate
from fovea_plugins.quality.lines import FIELD_DIAMETER_PX, LineMaps, line_maps
from fovea_plugins.quality.maps import Seen

if TYPE_CHECKING:
    from fovea_plugins.quality.network import LandmarkNetwork


@dataclass(frozen=True)
class Examination:
    """A view of `FIELD_DIAMETER_PX`, its lines, what the network saw, disc and fovea in it."""

    photograph: Photograph
    view: View
    lines: LineMaps
    seen: Seen
    disc: Disc | None
    fovea: Fovea | None


def examine(photograph: Photograph, network: LandmarkNetwork) -> Examination:
    """The examination of an opened picture, retina or not."""
    view = photograph.view(FIELD_DIAMETER_PX)
    seen = network.look(photograph)
    disc, fovea = locate(seen, view)
    return Examination(photograph, view, line_maps(view), seen, disc, fovea)
