"""The conditions that the classifier reports: one line each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Structure = Literal["disc", "macula", "vessels"]


@dataclass(frozen=True)
class Condition:
    """One condition. A further one is a further line, and an output in `plugin.toml`.

    Attributes:
        concept: Name of the finding.
        target: Output of the network.
        words: What is looked for, for people.
        structure: What must be gradable for it; None where any photograph will do.
        survives_reject: Judged even where quality rejects the photograph: clouding of the
            lens is a reason for a bad photograph.
    """

    concept: str
    target: str
    words: str
    structure: Structure | None = None
    survives_reject: bool = False


CONDITIONS = (
    Condition("referable_dr", "dr_2", "referable diabetic retinopathy (ICDR 2 or more)", "macula"),
    Condition("dr", "dr_1", "diabetic retinopathy of any grade", "macula"),
    Condition("dme", "dme_2", "hard exudates within a disc diameter of the fovea", "macula"),
    Condition("glaucoma", "G", "signs of glaucoma", "disc"),
    Condition("media_opacity", "C", "cataract or another opacity", None, survives_reject=True),
    Condition("amd", "A", "age-related macular degeneration of any stage", "macula"),
    Condition("hypertensive_retinopathy", "H", "hypertensive retinopathy", "vessels"),
    Condition("pathologic_myopia", "M", "pathologic myopia"),
    Condition("normal_fundus", "N", "nothing abnormal", "macula"),
)
