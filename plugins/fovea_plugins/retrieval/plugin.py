"""Finds archived photographs that look like the one asked about."""

from __future__ import annotations

import math
from collections import Counter

from pydantic import BaseModel, ConfigDict, Field

from fovea.contract import CaseFilter, Caveat, Context, EncoderPlugin, Neighbour, Result
from fovea.errors import PluginUnavailable
from fovea.image import Eye, Photograph
from fovea_plugins.retrieval.features import BLOCKS, Floats, describe
from fovea_plugins.retrieval.projection import Projection, share_above

NEAR_PERCENTILE = 98.0
"""A case is near when it is closer than this share of random pairs of patients."""
FEWEST_PAIRS = 200
"""Below this number the archive cannot say what is near; the reference pairs do."""
WORDS = {
    "colour": "overall colour and brightness",
    "texture": "vessel, spot and background texture",
    "layout": "arrangement of bright and dark areas",
}
ALIKE, UNLIKE = 0.85, 0.50


class SimilarArgs(BaseModel):
    """Arguments of `find_similar_cases`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k: int = Field(5, ge=1, le=20, description="How many similar cases to return.")
    eye: Eye | None = Field(None, description="Compare with right (OD) or left (OS) eyes only.")
    label: str | None = Field(
        None, max_length=60, description="Compare only with cases that bear this label."
    )
    fellow_eye: bool = Field(
        False, description="Let the other eye of the same patient be among the cases."
    )

    def wanted(self) -> CaseFilter:
        """The cases that are compared at all."""
        labels = (self.label,) if self.label else ()
        return CaseFilter(eye=self.eye, labels=labels, fellow_eye=self.fellow_eye)


class SimilarCases(EncoderPlugin[SimilarArgs]):
    """Describes colour, texture and layout, and asks the archive for the nearest cases."""

    Args = SimilarArgs
    encoder_id = "fovea-classical-1"

    _projection: Projection | None = None

    def load(self, device: str) -> None:
        """Read the projection."""
        self._projection = Projection.read(self.folder / self.manifest.weights[0].file)

    def unload(self) -> None:
        """Forget the projection."""
        self._projection = None

    def embed(self, image: Photograph) -> Floats:
        """A unit vector (128,) float32; equal for an eye and its mirror image.

        Raises:
            NotApplicable: no retina is visible.
        """
        return self._loaded().vector(describe(image))

    def run(self, context: Context, args: SimilarArgs) -> Result:
        """The `k` nearest cases of other patients, with labels and reasons."""
        archive = context.archive
        if archive is None:
            raise PluginUnavailable(
                self.manifest.name,
                "The case archive is not open",
                fix="Run `fovea doctor` to see why",
            )
        size = archive.count(self.encoder_id)
        if size == 0:
            return _nothing_embedded(archive.encoders())
        context.progress("Describing the photograph")
        vector = self.embed(context.image)
        context.progress(f"Looking through {size} archived cases")
        wanted = args.wanted()
        cases = archive.search(
            self.encoder_id, vector, args.k, exclude_sha256=context.image.sha256, wanted=wanted
        )
        if not cases and wanted != CaseFilter(fellow_eye=wanted.fellow_eye):
            return _nothing("No archived case of another patient fits the filter.", "none_fits")
        if not cases:
            return _nothing(
                "The case archive holds no case of another patient. "
                "Fill it with `fovea index add FOLDER`.",
                "no_other_patient",
            )
        pairs = archive.random_pair_distances(self.encoder_id)
        enough = len(pairs) >= FEWEST_PAIRS
        reference = pairs if enough else self._loaded().tensors["all.pairs"]
        similar = tuple(
            Neighbour(
                case_id=case.case_id,
                rank=rank,
                labels=case.labels,
                eye=case.eye,
                closeness_percentile=round(100 * share_above(reference, case.distance), 1),
                why=self._why(vector, case.vector),
            )
            for rank, case in enumerate(cases, start=1)
        )
        caveats = _caveats(similar, enough=enough, size=size)
        return Result(summary=_summary(similar, size=size), similar=similar, caveats=caveats)

    def _why(self, query: Floats, case: Floats) -> str:
        """Which blocks are nearer, or no nearer, than they are between random patients."""
        projection = self._loaded()
        distances = projection.block_distances(query, case)
        shares = {b: projection.share_further_apart(b, distances[b]) for b in BLOCKS}
        ordered = sorted(BLOCKS, key=lambda block: -shares[block])
        alike = [f"{WORDS[b]} (closer than {_percent(shares[b])} of random pairs)"
                 for b in ordered if shares[b] >= ALIKE]  # fmt: skip
        unlike = [WORDS[block] for block in ordered if shares[block] < UNLIKE]
        if not alike:
            best = ordered[0]
            text = f"No single aspect stands out; nearest in {WORDS[best]}"
        else:
            text = "Alike in " + ", ".join(alike)
        return text + (f"; not alike in {' or '.join(unlike)}." if unlike else ".")

    def _loaded(self) -> Projection:
        if self._projection is None:
            raise PluginUnavailable(
                self.manifest.name, "The weights are not loaded", fix="Call `load` first"
            )
        return self._projection


def _nothing(text: str, code: str) -> Result:
    return Result(summary=text, caveats=(Caveat(code=code, text=text),))


def _nothing_embedded(others: dict[str, int]) -> Result:
    if others:
        return _nothing(
            f"The case archive was filled by another encoder ({', '.join(others)}), whose vectors "
            "cannot be compared. Run `fovea index add FOLDER` again on the photographs.",
            "other_encoder",
        )
    return _nothing(
        "The case archive is empty: no similar case can be shown. "
        "Fill it with `fovea index add FOLDER`.",
        "archive_empty",
    )


def _percent(share: float) -> str:
    return ">99 %" if share > 0.99 else f"{100 * share:.0f} %"


def _caveats(similar: tuple[Neighbour, ...], *, enough: bool, size: int) -> tuple[Caveat, ...]:
    caveats = [
        Caveat(
            code="likeness_is_not_diagnosis",
            text="The labels are those of other patients' photographs that look alike; "
            "they are no finding in this photograph.",
        )
    ]
    if similar[0].closeness_percentile < NEAR_PERCENTILE:
        caveats.insert(  # first: a chat answer has room for one
            0,
            Caveat(
                code="not_similar_enough",
                text="Even the nearest case is not closer than the nearest "
                f"{100 - NEAR_PERCENTILE:.0f} % of random pairs of patients: "
                "nothing can be concluded from these cases.",
            ),
        )
    if not enough:
        caveats.append(
            Caveat(
                code="small_archive",
                text=f"The archive holds {size} case(s), too few to say what is near in it: "
                "closeness is judged against random pairs of the ODIR photographs instead.",
            )
        )
    return tuple(caveats)


def _interval(count: int, total: int) -> str:
    """95 % interval of a share, in percent (Wilson 1927, doi:10.1080/01621459.1927.10502953)."""
    z = 1.959964
    middle = (count + z * z / 2) / (total + z * z)
    half = z * math.sqrt(count * (total - count) / total + z * z / 4) / (total + z * z)
    return f"{100 * max(0.0, middle - half):.0f} to {100 * min(1.0, middle + half):.0f} %"


def _summary(similar: tuple[Neighbour, ...], *, size: int) -> str:
    near = [case for case in similar if case.closeness_percentile >= NEAR_PERCENTILE]
    searched = f"among {size} archived case{'s' if size > 1 else ''}"
    if not near:
        return (
            f"No similar case {searched}: the nearest, {similar[0].case_id}, is closer than "
            f"{similar[0].closeness_percentile:.1f} % of random pairs, and "
            f"{NEAR_PERCENTILE:.0f} % are needed to call it similar."
        )
    plural = "s" if len(near) > 1 else ""
    head = f"{len(near)} similar case{plural} of other patients {searched}, nearest "
    head += (
        f"{near[0].case_id} (closer than {near[0].closeness_percentile:.1f} % of random pairs). "
    )
    counts = Counter(label for case in near for label in case.labels)
    unlabelled = sum(not case.labels for case in near)
    parts = [
        f"{name} {number} of {len(near)} ({_interval(number, len(near))})"
        for name, number in counts.most_common()
    ]
    if unlabelled:
        parts.append(f"unlabelled {unlabelled} of {len(near)}")
    tail = "Likeness is no diagnosis."
    while parts:
        text = f"{head}Labels: {', '.join(parts)}. {tail}"
        if len(text) <= 400:
            return text
        parts.pop()
    return head + tail
