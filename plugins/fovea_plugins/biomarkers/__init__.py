"""Numbers that describe the vessel tree and the optic disc, on plain arrays.

`measure` measures vessels, `measure_disc` in `fovea_plugins.biomarkers.disc` disc and cup;
neither needs the assistant, and importing this package loads nothing but NumPy.
"""

from fovea_plugins.biomarkers.definitions import DEFINITIONS, Definition, Key, data_dictionary
from fovea_plugins.biomarkers.measuring import measure
from fovea_plugins.biomarkers.placing import Disc
from fovea_plugins.biomarkers.values import (
    Interval,
    Measure,
    NotMeasured,
    PhysicalScale,
    VesselMeasures,
)

__all__ = [
    "DEFINITIONS", "Definition", "Disc", "Interval", "Key", "Measure", "NotMeasured",
    "PhysicalScale", "VesselMeasures", "data_dictionary", "measure",
]  # fmt: skip
