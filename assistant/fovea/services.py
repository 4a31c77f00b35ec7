"""What the host hands to plugins that ask for it: read-only views of its stores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fovea.contract import EVERY_CASE, CaseFilter
from fovea.image import Eye

if TYPE_CHECKING:
    from fovea.contract import Passage


@dataclass(frozen=True)
class Case:
    """One archived photograph with its distance to a query.

    Attributes:
        case_id: Pseudonym, safe to show.
        patient: Pseudonym of the patient, or None when unknown.
        distance: Cosine distance, 0 to 2.
        vector: The stored unit vector (D,) float32, to say in what the two are
            alike. It stays inside the plugin: vectors are never shown.
    """

    case_id: str
    sha256: str
    labels: tuple[str, ...]
    eye: Eye | None
    patient: str | None
    distance: float
    vector: np.ndarray[Any, np.dtype[np.float32]] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Measured:
    """A value as the archive keeps it.

    Attributes:
        made_by: Method, tool and versions: values of another making are not compared.
    """

    name: str
    zone: str | None
    unit: str
    value: float
    made_by: str


class Archive(Protocol):
    """The case archive, as a plugin sees it."""

    def encoders(self) -> dict[str, int]:
        """Number of cases per encoder."""

    def count(self, encoder_id: str) -> int:
        """Number of cases that this encoder has embedded."""

    def search(
        self,
        encoder_id: str,
        vector: np.ndarray[Any, np.dtype[np.float32]],
        k: int,
        *,
        exclude_sha256: str,
        wanted: CaseFilter = EVERY_CASE,
    ) -> list[Case]:
        """The nearest `k` cases; the photograph itself and its patient are left out."""

    def measured(self, case_id: str) -> tuple[Measured, ...]:
        """What was measured in the photograph of a case; empty where nothing was."""

    def random_pair_distances(self, encoder_id: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Sorted cosine distances of random pairs, to judge what near means."""


@dataclass(frozen=True)
class Hit:
    """One entry of the knowledge base that fits a query.

    Attributes:
        entry_id: Id, cited as `[K:entry_id]`.
        title: Name of the entry.
        passages: Its statements, word for word, the definition first.
        score: 0 to 1; 0.8 and more: an id, name or synonym was recognised.
        why: What matched, in words.
    """

    entry_id: str
    title: str
    passages: tuple[Passage, ...]
    score: float
    why: str


class KnowledgeBase(Protocol):
    """The knowledge base, as a plugin sees it."""

    def search(self, query: str, limit: int) -> list[Hit]:
        """Entries for a free-text query, exact ids and synonyms first."""
