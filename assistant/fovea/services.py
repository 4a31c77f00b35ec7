"""What the host hands to plugins that ask for it: read-only views of its stores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from fovea.image import Eye


@dataclass(frozen=True)
class Case:
    """One archived photograph with its distance to a query.

    Attributes:
        case_id: Pseudonym, safe to show.
        distance: Cosine distance, 0 to 2.
        features: Named image features that both the query and the case have.
    """

    case_id: str
    sha256: str
    labels: tuple[str, ...]
    eye: Eye | None
    patient: str | None
    distance: float


class Archive(Protocol):
    """The case archive, as a plugin sees it."""

    def count(self, encoder_id: str) -> int:
        """Number of cases that this encoder has embedded."""

    def search(
        self,
        encoder_id: str,
        vector: np.ndarray[Any, np.dtype[np.float32]],
        k: int,
        *,
        exclude_sha256: str,
    ) -> list[Case]:
        """The nearest `k` cases; the photograph itself and its patient are left out."""

    def random_pair_distances(self, encoder_id: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Sorted cosine distances of random pairs, to judge what near means."""


class KnowledgeBase(Protocol):
    """The knowledge base, as a plugin sees it."""

    def search(self, query: str, limit: int) -> list[Any]:
        """Entries for a free-text query, exact ids and synonyms first."""
