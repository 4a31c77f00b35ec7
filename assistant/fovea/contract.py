"""Everything that a plugin author imports.

A plugin is a folder with `plugin.toml` (see `fovea.manifest`) and one class
derived from `Plugin`. It gets a `Context`, returns a `Result`, and raises a
`PluginError` when it cannot. The host checks every result against the manifest
and adds the provenance; a plugin never writes its own.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator

from fovea.errors import Cancelled, NotApplicable
from fovea.image import Eye, Mask, Photograph, Scale
from fovea.manifest import Manifest

if TYPE_CHECKING:
    from fovea.services import Archive, KnowledgeBase

__all__ = [
    "Artifact", "CaseFilter", "Caveat", "Context", "EncoderPlugin", "Finding", "Health", "Interval",
    "Measurement", "Neighbour", "NoArgs", "NotMeasured", "Passage", "Plugin", "Result", "Source",
]  # fmt: skip

State = Literal["present", "absent", "indeterminate", "not_assessable"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(_Frozen):
    """An interval around a value, in the unit of the value."""

    low: FiniteFloat
    high: FiniteFloat
    level: float | None = Field(
        None, gt=0, lt=1, description="Nominal coverage; None for a range without one."
    )
    how: str = Field(min_length=3, description="How it was obtained, in words.")


class CohortPlace(_Frozen):
    """Where a value lies in one's own cohort, measured by the same method and versions."""

    percentile: float = Field(gt=0, lt=100)
    low: float | None = Field(None, description="95 % interval of the percentile.")
    high: float | None = None
    beyond: Literal["below", "above"] | None = Field(
        None, description="Set where the value lies beyond the last percentile that is known."
    )
    cohort: str = Field(description="Its name, and the part of it that was compared with.")
    n: int = Field(gt=0)
    counted: Literal["people", "photographs"]

    @property
    def words(self) -> str:
        """`at the 34th percentile (95 % interval 25 to 44) of the cohort City (n = 120 people)`."""
        rank = f"{self.percentile:g}"
        teen = rank[-2:-1] == "1" and "." not in rank
        ending = "th" if teen else {"1": "st", "2": "nd", "3": "rd"}.get(rank[-1], "th")
        interval = ""
        if self.low is not None and self.high is not None:
            interval = f" (95 % interval {self.low:g} to {self.high:g})"
        return (
            f"{self.beyond or 'at'} the {rank}{ending} percentile{interval} of the cohort "
            f"{self.cohort} (n = {self.n} {self.counted})"
        )


class Measurement(_Frozen):
    """A number with unit and method. Unknown is a `NotMeasured`, never 0 or NaN."""

    name: str = Field(description="An output declared in the manifest.")
    value: FiniteFloat
    unit: str = Field(description="UCUM unit, the one declared in the manifest.")
    method: str = Field(min_length=3, description="How it was measured, in one sentence.")
    eye: Eye | None = None
    zone: str | None = Field(None, description="Region, such as `zone_b`; None: whole field.")
    interval: Interval | None = None
    cohort: CohortPlace | None = Field(
        None, description="Added by the host from `fovea norms build`; a plugin leaves it out."
    )


class NotMeasured(_Frozen):
    """A declared measurement that could not be made, and why."""

    name: str
    reason: str = Field(min_length=3)


class Finding(_Frozen):
    """Whether a concept of the knowledge base is there."""

    concept: str = Field(description="An output declared in the manifest, of kind `finding`.")
    state: State
    value: str | None = Field(None, description="For findings with more than yes and no: `OD`.")
    probability: float | None = Field(None, ge=0, le=1)
    calibrated: bool = Field(False, description="True only if measured on held-out images.")
    threshold: float | None = Field(None, ge=0, le=1)
    region: str | None = None
    detail: str = Field("", max_length=300, description="The reason, in plain words.")


class Artifact(_Frozen):
    """A file that the plugin wrote into its work folder.

    A mask or overlay has the size of the original image. A mask is an 8-bit
    grey PNG of 0 and 255.
    """

    name: str = Field(description="An output declared in the manifest.")
    kind: Literal["mask", "overlay", "heatmap", "table", "image"]
    path: Path
    media_type: str = "image/png"
    channels: tuple[str, ...] = ()
    frame: Literal["original"] = "original"


class Caveat(_Frozen):
    """A reason to trust a result less; `code` is stable, `text` is for people."""

    code: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    text: str = Field(min_length=5)


class Difference(_Frozen):
    """One measurement of the photograph asked about beside that of an archived one."""

    name: str
    zone: str | None
    unit: str
    here: FiniteFloat
    there: FiniteFloat


class Neighbour(_Frozen):
    """One similar case of the archive."""

    case_id: str
    rank: int = Field(ge=1)
    labels: tuple[str, ...] = ()
    eye: Eye | None = None
    closeness_percentile: float = Field(
        ge=0, le=100, description="Share of random archive pairs that are further apart."
    )
    why: str = Field(description="What the two images share, in plain words.")
    differences: tuple[Difference, ...] = Field(
        (), description="Added by the host where both were measured; a plugin leaves it out."
    )


@dataclass(frozen=True)
class CaseFilter:
    """Which archived cases are compared at all; a field that is None asks for nothing.

    Attributes:
        labels: Cases with at least one of these.
        patient: Pseudonym of the patient.
        since, until: First and last day of the photograph. Undated cases do not pass.
        fellow_eye: Leave in the other eye of the patient asked about.
    """

    eye: Eye | None = None
    device: str | None = None
    labels: tuple[str, ...] = ()
    patient: str | None = None
    since: date | None = None
    until: date | None = None
    fellow_eye: bool = False


EVERY_CASE = CaseFilter()


class Source(_Frozen):
    """A citation of the knowledge base."""

    key: str
    citation: str


class Passage(_Frozen):
    """A statement of the knowledge base, quoted word for word."""

    entry_id: str
    title: str
    text: str
    sources: tuple[Source, ...]
    review: Literal["draft", "clinician_reviewed"]


class Result(_Frozen):
    """What one plugin run found."""

    summary: str = Field(max_length=400, description="For the LLM, built from the fields below.")
    findings: tuple[Finding, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    not_measured: tuple[NotMeasured, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    caveats: tuple[Caveat, ...] = ()
    similar: tuple[Neighbour, ...] = ()
    passages: tuple[Passage, ...] = ()

    @field_validator("summary")
    @classmethod
    def _one_line(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("must say what was found")
        return " ".join(value.split())

    def measurement(self, name: str, *, zone: str | None = None) -> Measurement | None:
        """The measurement of that name and zone, or None."""
        return next((m for m in self.measurements if (m.name, m.zone) == (name, zone)), None)

    def finding(self, concept: str) -> Finding | None:
        """The finding about that concept, or None."""
        return next((f for f in self.findings if f.concept == concept), None)


class Health(_Frozen):
    """Whether a plugin could run, judged without running a model."""

    ok: bool
    reason: str = ""
    fix: str = ""


@dataclass(frozen=True)
class Context:
    """What a plugin may know while it runs: no LLM, no session, no other patients.

    Attributes:
        images: The photographs asked about, none to two.
        work_dir: Private folder for artifacts.
        earlier: Results of other plugins on the first image, by output name; on
            the second image of a comparison in `earlier_second`.
        rng: Seeded generator; the only source of randomness allowed.
        knowledge, archive: Host services, when the manifest asks for them.
    """

    images: tuple[Photograph, ...]
    work_dir: Path
    earlier: Mapping[str, Result] = field(default_factory=dict)
    earlier_second: Mapping[str, Result] = field(default_factory=dict)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    knowledge: KnowledgeBase | None = None
    archive: Archive | None = None
    report_progress: Callable[[str], None] = lambda text: None
    is_cancelled: Callable[[], bool] = lambda: False

    @property
    def image(self) -> Photograph:
        """The photograph asked about (the first one of two)."""
        if not self.images:
            raise NotApplicable("plugin", "No image was given", fix="Add a photograph")
        return self.images[0]

    @property
    def eye(self) -> Eye | None:
        """The eye by person, file or quality gate; None when nobody knows."""
        if self.image.eye:
            return self.image.eye
        quality = self.earlier.get("eye")
        finding = quality.finding("eye") if quality else None
        value = finding.value if finding else None
        return "OD" if value == "OD" else "OS" if value == "OS" else None

    @property
    def scale(self) -> Scale | None:
        """The pixel scale from the file, else from the disc-fovea distance, else None.

        None also where disc and fovea are said to lie on the same spot: no eye is so.
        """
        if self.image.scale:
            return self.image.scale
        points = [self.measured(name) for name in ("disc_x", "disc_y", "fovea_x", "fovea_y")]
        if any(point is None for point in points):
            return None
        disc_x, disc_y, fovea_x, fovea_y = (point.value for point in points if point)
        distance_px = math.hypot(fovea_x - disc_x, fovea_y - disc_y)
        return Scale.from_disc_fovea(distance_px) if distance_px > 0 else None

    def measured(self, name: str) -> Measurement | None:
        """An earlier measurement on the first image, or None."""
        result = self.earlier.get(name)
        return result.measurement(name) if result else None

    def mask(self, name: str) -> Mask | None:
        """An earlier mask of the first image as (H, W) bool, or None."""
        result = self.earlier.get(name)
        artifact = next((a for a in result.artifacts if a.name == name), None) if result else None
        return read_mask(artifact.path) if artifact else None

    def progress(self, text: str) -> None:
        """Tell the person what is being done; also a place where stop takes effect."""
        self.check_cancelled()
        self.report_progress(text)

    def check_cancelled(self) -> None:
        """Raise `Cancelled` if the person pressed stop. Call it inside long loops."""
        if self.is_cancelled():
            raise Cancelled

    def save_mask(self, name: str, mask: Mask) -> Artifact:
        """Write a mask (H, W) of the original size and return its artifact."""
        import cv2

        path = self.work_dir / f"{name}.png"
        cv2.imwrite(str(path), mask.astype(np.uint8) * 255)
        return Artifact(name=name, kind="mask", path=path)

    def save_picture(
        self, name: str, pixels: np.ndarray[Any, Any], kind: Literal["overlay", "heatmap", "image"]
    ) -> Artifact:
        """Write an RGB or RGBA picture (H, W, 3 or 4) uint8 and return its artifact."""
        import cv2

        path = self.work_dir / f"{name}.png"
        order = cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR
        cv2.imwrite(str(path), cv2.cvtColor(pixels, order))
        return Artifact(name=name, kind=kind, path=path)


def read_mask(path: Path) -> Mask:
    """The mask PNG at `path` as (H, W) bool."""
    import cv2

    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise FileNotFoundError(path.name)
    return np.asarray(grey) > 127


class NoArgs(_Frozen):
    """For plugins that take no arguments beyond the image, which the host supplies."""


ArgsT = TypeVar("ArgsT", bound=BaseModel)


class Plugin(ABC, Generic[ArgsT]):
    """One capability. The host creates it once and may call `run` many times.

    A subclass sets `Args`, a pydantic model with `extra="forbid"` whose fields
    are all described. The host adds the image argument; paths and devices are
    never arguments.

    Example:
        >>> class Brightness(Plugin[NoArgs]):
        ...     Args = NoArgs
        ...     def run(self, context, args):
        ...         value = float(context.image.pixels.mean())
        ...         return Result(
        ...             summary=f"Mean brightness {value:.0f} of 255.",
        ...             measurements=(Measurement(
        ...                 name="brightness", value=value, unit="1",
        ...                 method="mean of all pixels"),))
    """

    Args: ClassVar[type[BaseModel]] = NoArgs

    def __init__(self, manifest: Manifest, folder: Path) -> None:
        self.manifest, self.folder = manifest, folder

    def load(self, device: str) -> None:
        """Read weights, once, before the first run. The host has verified their sha256."""

    def unload(self) -> None:
        """Free what `load` took. May be called twice."""

    def health(self) -> Health:
        """Whether the plugin could run. Runs no model; the host checks weights and imports."""
        return Health(ok=True)

    @abstractmethod
    def run(self, context: Context, args: ArgsT) -> Result:
        """The result for this context. Raises `PluginError` when there is none."""


class EncoderPlugin(Plugin[ArgsT]):
    """A plugin that also turns a photograph into a vector for the case archive."""

    encoder_id: ClassVar[str]
    """Changes whenever vectors of two versions cannot be compared."""

    @abstractmethod
    def embed(self, image: Photograph) -> np.ndarray[Any, np.dtype[np.float32]]:
        """A unit vector (D,) float32 for the photograph."""
