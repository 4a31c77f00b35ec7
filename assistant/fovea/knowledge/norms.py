"""Percentiles of one's own cohort, each for one method and one version of every tool.

A norm is looked up by measurement, zone, unit, method and the versions that made it: values
of two methods, or of two vessel networks, are never compared. The file keeps percentiles
only, no person's values.

Sources:
    Percentiles at rank p (n + 1), and how many are needed: CLSI EP28-A3c, Defining,
        establishing, and verifying reference intervals in the clinical laboratory, 2010.
    Interval of a percentile: Wilson EB. J Am Stat Assoc 1927;22:209-212.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from fovea.contract import CohortPlace, Measurement

Sex = Literal["F", "M"]

RANKS = (2.5, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 97.5)
"""The percentiles that are kept."""

LEAST_N = 40
"""With fewer than 39 values no value has the rank 2.5 % of n + 1."""

COHORT_NAME = r"^[A-Za-z0-9][A-Za-z0-9 _-]{2,59}$"

Z_95 = 1.959964

_COUNT = re.compile(r"; \d+ [a-z ]+(?=;|$)")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Stratum(_Frozen):
    """The percentiles of all, or of one sex, or of an age band, or of both."""

    n: int = Field(ge=LEAST_N)
    sex: Sex | None = Field(None, description="None: both.")
    age_from: int | None = Field(None, ge=0, description="In years; None: all ages.")
    age_below: int | None = Field(None, le=130)
    percentiles: tuple[FiniteFloat, ...] = Field(
        min_length=len(RANKS), max_length=len(RANKS), description="At the ranks of the file."
    )

    @model_validator(mode="after")
    def _rising(self) -> Stratum:
        if list(self.percentiles) != sorted(self.percentiles):
            raise ValueError("the percentiles must rise")
        if (self.age_from is None) != (self.age_below is None):
            raise ValueError("give both `age_from` and `age_below`, or neither")
        return self

    @property
    def said(self) -> str:
        """Who is in it: `women of 50 to 59 years`; empty for everybody."""
        who = {"F": "women", "M": "men", None: ""}[self.sex]
        if self.age_from is None or self.age_below is None:
            return who
        years = f"{self.age_from} to {self.age_below - 1} years"
        return f"{who} of {years}" if who else f"people of {years}"

    def fits(self, age_years: float | None, sex: Sex | None) -> bool:
        """Whether a person belongs to it; what is not known about the person never fits."""
        if self.sex is not None and self.sex != sex:
            return False
        if self.age_from is None or self.age_below is None:
            return True
        return age_years is not None and self.age_from <= age_years < self.age_below


class Norm(_Frozen):
    """The percentiles of one measurement by one method."""

    output: str
    zone: str | None = None
    unit: str
    method: str = Field(min_length=3)
    made_by: str = Field(min_length=3, description="Tools and versions, as in the evidence.")
    strata: tuple[Stratum, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _starts_with_everybody(self) -> Norm:
        if self.strata[0].said:
            raise ValueError("the first stratum must be the whole cohort")
        return self


class Norms(_Frozen):
    """What `fovea norms build` writes."""

    cohort: str = Field(pattern=COHORT_NAME)
    built: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    counted: Literal["people", "photographs"]
    ranks: tuple[float, ...]
    norms: tuple[Norm, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Norms:
        if self.ranks != RANKS:
            raise ValueError(f"the ranks must be {', '.join(f'{rank:g}' for rank in RANKS)}")
        keys = [_key(n.output, n.zone, n.unit, n.method, n.made_by) for n in self.norms]
        if len(set(keys)) < len(keys):
            raise ValueError("two norms are about the same measurement, method and versions")
        return self

    def place(
        self,
        m: Measurement,
        made_by: str,
        *,
        age_years: float | None = None,
        sex: Sex | None = None,
    ) -> CohortPlace | None:
        """Where a value lies in the cohort; None where the cohort has none of its method.

        Args:
            m: The value.
            made_by: Tools and versions that made it.
            age_years: Of the person; None: not known, so no age band is used.
            sex: Of the person; None: not known.
        """
        wanted = _key(m.name, m.zone, m.unit, m.method, made_by)
        for norm in self.norms:
            if _key(norm.output, norm.zone, norm.unit, norm.method, norm.made_by) == wanted:
                # The narrowest group that the person is known to belong to.
                fitting = [s for s in norm.strata if s.fits(age_years, sex)]
                own = max(fitting, key=lambda s: (s.age_from is not None) + (s.sex is not None))
                return self._placed(m.value, own)
        return None

    def _placed(self, value: float, own: Stratum) -> CohortPlace:
        cohort = f"{self.cohort}, {own.said}" if own.said else self.cohort
        rank = rank_of(value, own.percentiles)
        if rank is None:
            below = value < own.percentiles[0]
            return CohortPlace(
                percentile=RANKS[0] if below else RANKS[-1],
                beyond="below" if below else "above",
                cohort=cohort, n=own.n, counted=self.counted,
            )  # fmt: skip
        low, high = wilson(rank / 100.0, own.n)
        return CohortPlace(
            percentile=round(rank), low=round(100 * low), high=round(100 * high),
            cohort=cohort, n=own.n, counted=self.counted,
        )  # fmt: skip


def rank_of(value: float, percentiles: tuple[float, ...]) -> float | None:
    """The percentile of a value, linear between those kept; None beyond them.

    A value that many share lies in the middle of the ranks that it has.
    """
    if not percentiles[0] <= value <= percentiles[-1]:
        return None
    same = [rank for rank, p in zip(RANKS, percentiles, strict=True) if p == value]
    if same:
        return (same[0] + same[-1]) / 2.0
    right = bisect_left(percentiles, value)
    low, high = percentiles[right - 1], percentiles[right]
    share = (value - low) / (high - low)
    return RANKS[right - 1] + share * (RANKS[right] - RANKS[right - 1])


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share (0 to 1) found in n values."""
    middle = share + Z_95**2 / (2 * n)
    half = Z_95 * math.sqrt(share * (1 - share) / n + Z_95**2 / (4 * n**2))
    scale = 1 + Z_95**2 / n
    return (middle - half) / scale, (middle + half) / scale


def plain_method(method: str) -> str:
    """A method without how much one value rests on: `; 6 vessels` differs from eye to eye."""
    return " ".join(_COUNT.sub("", method).casefold().split()).rstrip(".")


def made_by(plugin: str, version: str, inputs: Mapping[str, str]) -> str:
    """Who made a value: `measure_biomarkers 0.2.0 from segment_vessels 0.3.0`."""
    given = ", ".join(f"{name} {inputs[name]}" for name in sorted(inputs))
    return f"{plugin} {version}" + (f" from {given}" if given else "")


def _key(output: str, zone: str | None, unit: str, method: str, by: str) -> tuple[str, ...]:
    return output, zone or "", unit, plain_method(method), by
