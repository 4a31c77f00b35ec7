"""Evidence of made-up sessions for the report's tests and benchmarks: varied, valid, seeded.

It knows the contract of the tools and the names of the knowledge base, and nothing of how
a report is compiled or checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from fovea.contract import (
    Caveat,
    Finding,
    Interval,
    Measurement,
    Neighbour,
    NotMeasured,
    Result,
)
from fovea.evidence import Evidence, ImageRecord, Provenance
from fovea.knowledge import Knowledge
from fovea.report.model import History

STATES = ("present", "absent", "indeterminate", "not_assessable")
QUADRANTS = ("superotemporal", "superonasal", "inferotemporal", "inferonasal")
LESIONS = ("microaneurysm", "haemorrhage", "hard_exudate", "soft_exudate")
VESSEL_VALUES = (
    ("crae", "um", 90, 220), ("crve", "um", 150, 320), ("avr", "1", 0.5, 0.95),
    ("fractal_dimension", "1", 1.1, 1.8), ("tortuosity", "1", 1.01, 1.4),
    ("vessel_density", "1", 0.03, 0.2),
)  # fmt: skip
CASE_LABELS = ("glaucoma", "drusen", "normal", "moderate diabetic retinopathy", "myopia")


@dataclass(frozen=True)
class Session:
    """The photographs and the evidence of one made-up session.

    Attributes:
        eyes: Handle to the eye that the photograph really shows.
    """

    eyes: dict[str, str]
    images: tuple[ImageRecord, ...]
    evidence: tuple[Evidence, ...]
    history: History
    refused: dict[str, str]


class SessionMaker:
    """Makes sessions from a seed; the same seed gives the same sessions.

    Args:
        seed: Start of the random numbers.
        knowledge: Whose names of lesions and conditions are used.
    """

    def __init__(self, seed: int, knowledge: Knowledge) -> None:
        self.rng = Random(seed)  # noqa: S311 - test data, not secrets
        self._names = sorted(
            entry.id
            for entry in knowledge.entries.values()
            if entry.kind in ("condition", "finding")
        )
        self._pieces: list[Evidence] = []

    def make(self) -> Session:
        """The next session: some tools missing, some eyes unknown, some results contradictory."""
        rng = self.rng
        self._pieces = []
        images, eyes = [], {}
        for number in range(1, rng.choice((1, 1, 1, 2, 2, 3)) + 1):
            handle, eye = f"img{number}", rng.choice(("OD", "OS"))
            named = eye if rng.random() < 0.5 else None
            eyes[handle] = eye
            images.append(
                ImageRecord(
                    handle=handle, sha256=f"{number}" * 64, format="PNG", width=1400, height=1200,
                    eye=named, eye_source=rng.choice(("person", "dicom")) if named else None,
                )
            )  # fmt: skip
            self._photograph(handle, eye)
        rng.shuffle(self._pieces)
        evidence = tuple(
            piece.model_copy(update={"id": f"E{n}"}) for n, piece in enumerate(self._pieces, 1)
        )
        history = History(
            text=rng.choice(("", "Routine screening", "Blurred sight since Monday")),
            diabetes=rng.choice((None, True, False)), age_years=rng.choice((None, 48, 71)),
        )  # fmt: skip
        refused = {"explain_prediction": "The picture is too small."} if rng.random() < 0.3 else {}
        return Session(eyes, tuple(images), evidence, history, refused)

    def _photograph(self, handle: str, eye: str) -> None:
        rng = self.rng
        makers = (
            (self._quality, 0.9), (self._disc, 0.8), (self._vessels, 0.8), (self._lesions, 0.8),
            (self._classifier, 0.5), (self._similar, 0.4), (self._second_reader, 0.2),
        )  # fmt: skip
        for maker, share in makers:
            if rng.random() < share:
                maker(handle, eye)

    def _add(self, tool: str, handle: str, **fields: object) -> None:
        result = Result.model_validate({"summary": f"Result of {tool}.", **fields})
        provenance = Provenance(
            plugin=tool, plugin_version="1.0.0", weights_sha256={}, image_sha256=("0" * 64,),
            arguments={}, preprocessing=(), used=(), seed=0, libraries={},
            started="2026-01-01T00:00:00+00:00", seconds=0.1,
        )  # fmt: skip
        self._pieces.append(
            Evidence(id="E1", tool=tool, images=(handle,), result=result, provenance=provenance)
        )

    def _quality(self, handle: str, eye: str) -> None:
        rng = self.rng
        fundus = "absent" if rng.random() < 0.03 else "present"
        value = rng.choices(("good", "usable", "reject"), (6, 3, 1))[0]
        states = rng.choices(("present", "absent", "not_assessable"), (10, 1, 1), k=3)
        self._add(
            "assess_quality", handle,
            findings=(
                Finding(concept="fundus_photograph", state=fundus),
                Finding(concept="quality", state="present", value=value),
                *(Finding(concept=f"gradable_{name}", state=state)
                  for name, state in zip(("disc", "macula", "vessels"), states, strict=True)),
                Finding(concept="eye", state="present", value=eye),
                Finding(concept="field", state="present", value="macula_centred"),
            ),
            measurements=(self._value("quality_score", "1", 0.2, 1.0, None),),
        )  # fmt: skip

    def _value(
        self, name: str, unit: str, low: float, high: float, eye: str | None,
        *, zone: str | None = None,
    ) -> Measurement:  # fmt: skip
        rng = self.rng
        value = rng.uniform(low, high)
        spread = (high - low) * rng.uniform(0.05, 0.2)
        interval = Interval(
            low=value - spread, high=value + spread, level=rng.choice((0.9, 0.95)), how="test set"
        )
        return Measurement(
            name=name, value=value, unit=unit, method="as made for this test", eye=eye, zone=zone,
            interval=interval if rng.random() < 0.6 else None,
        )  # fmt: skip

    def _disc(self, handle: str, eye: str) -> None:
        self._add(
            "segment_optic_disc", handle,
            measurements=(
                self._value("vertical_cdr", "1", 0.2, 0.9, eye),
                self._value("horizontal_cdr", "1", 0.2, 0.9, eye),
                self._value("disc_diameter_vertical", "px", 120, 260, eye),
            ),
            caveats=(Caveat(code="no_depth", text="The cup is inferred from colour alone."),),
        )  # fmt: skip

    def _vessels(self, handle: str, eye: str) -> None:
        rng = self.rng
        kept = [row for row in VESSEL_VALUES if rng.random() < 0.7]
        values = [self._value(*row, eye) for row in kept]
        if rng.random() < 0.4:
            values.append(self._value("fractal_dimension", "1", 1.1, 1.8, eye, zone="zone_b"))
        missing = [row[0] for row in VESSEL_VALUES if row not in kept][:2]
        self._add(
            "measure_biomarkers", handle, measurements=tuple(values),
            not_measured=tuple(
                NotMeasured(name=name, reason="Too few vessels were found.") for name in missing
            ),
        )  # fmt: skip

    def _lesions(self, handle: str, eye: str) -> None:
        rng = self.rng
        findings, values = [], []
        for name in LESIONS:
            state = rng.choices(STATES, (4, 2, 3, 1))[0]
            findings.append(Finding(concept=name, state=state, probability=round(rng.random(), 3)))
            if state == "not_assessable":
                continue
            count = 0 if state == "absent" else rng.randrange(1, 90)
            sure = count if rng.random() < 0.5 else count // 2
            values.append(
                Measurement(
                    name=f"{name}_count", value=count, unit="1", eye=eye, method="spots",
                    interval=Interval(low=sure, high=count + 5, how="two cuts"),
                )
            )  # fmt: skip
            for zone in rng.sample(QUADRANTS, rng.randrange(5)) if count else ():
                values.append(
                    Measurement(
                        name=f"{name}_quadrant_count", value=rng.randrange(0, 40), unit="1",
                        eye=eye, method="spots", zone=zone,
                    )
                )  # fmt: skip
            if count and rng.random() < 0.6:
                values.append(self._value(f"{name}_fovea_distance_um", "um", 300, 4000, eye))
        self._add("segment_lesions", handle, findings=tuple(findings), measurements=tuple(values))

    def _classifier(self, handle: str, eye: str) -> None:
        rng = self.rng
        names = rng.sample(self._names, rng.randrange(4))
        findings = [
            Finding(concept=name, state=rng.choice(STATES), probability=round(rng.random(), 3))
            for name in names
        ]
        values = []
        if rng.random() < 0.6:
            values.append(
                Measurement(
                    name="dr_grade", value=rng.randrange(5), unit="1", eye=eye, method="network"
                )
            )
        self._add("classify_disease", handle, findings=tuple(findings), measurements=tuple(values))

    def _second_reader(self, handle: str, eye: str) -> None:
        """Another tool about lesions, which may contradict the first."""
        rng = self.rng
        self._add(
            "third_party", handle,
            findings=tuple(
                Finding(concept=name, state=rng.choice(STATES))
                for name in rng.sample((*LESIONS, "nvd_nve", "irma", "venous_beading"), 3)
            ),
        )  # fmt: skip

    def _similar(self, handle: str, eye: str) -> None:
        rng = self.rng
        cases = tuple(
            Neighbour(
                case_id=f"case-{rng.randrange(1, 9999):04d}-{rank}", rank=rank,
                labels=tuple(rng.sample(CASE_LABELS, rng.randrange(3))),
                closeness_percentile=round(rng.uniform(60, 99), 1),
                why="Both have a similar colour.",
            )
            for rank in range(1, rng.randrange(2, 5))
        )  # fmt: skip
        self._add("find_similar_cases", handle, similar=cases)
