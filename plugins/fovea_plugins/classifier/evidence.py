"""The measured evidence that the second opinion stands on.

Every value is one that another tool measured and shows; what was not measured is
None and stays None until the model replaces it by the mean of its training set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from fovea.contract import Result

LESIONS = ("microaneurysm", "haemorrhage", "hard_exudate", "soft_exudate")


Row = Mapping[str, float | None]
"""Features by name; None where not measured."""


@dataclass(frozen=True)
class Feature:
    """One number of the second opinion.

    Attributes:
        name: Its name in the weights.
        words: What it is, for people.
        needs: The measurement or finding that it is made from.
    """

    name: str
    words: str
    needs: str


FEATURES = (
    *(
        feature
        for lesion in LESIONS
        for feature in (
            Feature(f"{lesion}_count", f"number of {lesion.replace('_', ' ')}s", f"{lesion}_count"),
            Feature(
                f"{lesion}_area",
                f"area of {lesion.replace('_', ' ')}s",
                f"{lesion}_area_share",
            ),
            Feature(f"{lesion}_doubt", f"clearest {lesion.replace('_', ' ')}", lesion),
        )
    ),
    Feature(
        "exudate_nearness", "nearness of hard exudates to the fovea", "hard_exudate_fovea_distance"
    ),
    Feature("vertical_cdr", "vertical cup-to-disc ratio", "vertical_cdr"),
    Feature("cup_excess", "cup-to-disc ratio beyond 0.6", "vertical_cdr"),
    Feature("quality", "quality score", "quality_score"),
)
"""In the order of the weights."""

CUP_LIMIT = 0.6
"""The ratio beyond which a cup counts more: 0.6 to 0.7 is where suspicion begins (Foster 2002)."""


def read_evidence(earlier: Mapping[str, Result]) -> dict[str, float | None]:
    """The features, by name; None where the measurement was not made.

    Args:
        earlier: Results of other tools on the photograph, by output name.
    """
    found: dict[str, float | None] = {}
    for lesion in LESIONS:
        count = _measured(earlier, f"{lesion}_count")
        share = _measured(earlier, f"{lesion}_area_share")
        result = earlier.get(lesion)
        finding = result.finding(lesion) if result else None
        clearest = finding.probability if finding else None
        found[f"{lesion}_count"] = None if count is None else math.log1p(count)
        found[f"{lesion}_area"] = None if share is None else math.log10(share + 0.01)
        found[f"{lesion}_doubt"] = None if clearest is None else _logit(clearest)
    count = _measured(earlier, "hard_exudate_count")
    distance = _measured(earlier, "hard_exudate_fovea_distance")
    # No exudate is as far from the fovea as can be; an unknown distance is unknown.
    near = None if distance is None else math.exp(-distance)
    found["exudate_nearness"] = 0.0 if count == 0 else near
    ratio = _measured(earlier, "vertical_cdr")
    found["vertical_cdr"] = ratio
    found["cup_excess"] = None if ratio is None else max(0.0, ratio - CUP_LIMIT)
    found["quality"] = _measured(earlier, "quality_score")
    return found


def _logit(probability: float) -> float:
    kept = min(max(probability, 0.001), 0.999)
    return math.log(kept / (1.0 - kept))


NOTHING: Mapping[str, Row] = {
    lesion: {
        f"{lesion}_count": 0.0,
        f"{lesion}_area": math.log10(0.01),
        f"{lesion}_doubt": _logit(0.0),
        **({"exudate_nearness": 0.0} if lesion == "hard_exudate" else {}),
    }
    for lesion in LESIONS
}
"""What the features are where there is no lesion of a kind."""


def _measured(earlier: Mapping[str, Result], name: str) -> float | None:
    result = earlier.get(name)
    measurement = result.measurement(name) if result else None
    return measurement.value if measurement else None
