"""The vectors of one encoder in memory, searched exactly."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from fovea.archive.records import Vector
from fovea.errors import ArchiveError
from fovea.image import Eye
from fovea.services import Case

MOST_PAIRS = 5000
PAIR_SEED = 20250


@dataclass(frozen=True)
class Entry:
    """One checked row of the archive."""

    case_id: str
    sha256: str
    labels: tuple[str, ...]
    eye: Eye | None
    patient: str | None
    vector: Vector


class EncoderIndex:
    """An exact index over the entries of one encoder, as of one generation of the archive."""

    def __init__(self, encoder_id: str, generation: int, entries: list[Entry]) -> None:
        self.encoder_id, self.generation = encoder_id, generation
        self._entries = entries
        self._faiss: Any = None
        if entries:
            import faiss

            self._vectors = np.stack([entry.vector for entry in entries])
            self._faiss = faiss.IndexFlatIP(self._vectors.shape[1])
            self._faiss.add(self._vectors)
        patients = [entry.patient or f"unknown {entry.case_id}" for entry in entries]
        self._patients = np.array(patients, dtype=object)
        self._positions = {entry.sha256: position for position, entry in enumerate(entries)}

    def nearest(
        self, query: Vector, k: int, *, exclude_sha256: str, exclude_patient: str | None
    ) -> list[Case]:
        """The nearest `k` cases without the photograph itself and the named patients."""
        if self._faiss is None:
            return []
        if query.shape[0] != self._faiss.d:
            raise ArchiveError(
                f"A vector of length {query.shape[0]} cannot be looked up",
                where=f"archive, encoder `{self.encoder_id}`",
                why=f"The archived vectors have length {self._faiss.d}",
                fix="Use the encoder that filled the archive, or add the photographs again",
            )
        import faiss

        banned = self._banned(exclude_sha256, exclude_patient)
        # Named, so that they outlive the search: faiss keeps only pointers to them.
        batch = faiss.IDSelectorBatch(banned)
        others = faiss.IDSelectorNot(batch)
        allowed = faiss.SearchParameters()
        allowed.sel = others
        wanted = min(k, len(self._entries) - len(banned))
        if wanted < 1:
            return []
        closeness, positions = self._faiss.search(query[None], wanted, params=allowed)
        return [
            self._case(int(position), float(value))
            for position, value in zip(positions[0], closeness[0], strict=True)
            if position >= 0
        ]

    def _banned(self, sha256: str, patient: str | None) -> np.ndarray[Any, np.dtype[np.int64]]:
        names = {patient} if patient else set()
        position = self._positions.get(sha256)
        if position is not None:
            names.add(self._patients[position])
        return np.flatnonzero(np.isin(self._patients, list(names))).astype(np.int64)

    def _case(self, position: int, closeness: float) -> Case:
        entry = self._entries[position]
        return Case(
            case_id=entry.case_id,
            sha256=entry.sha256,
            labels=entry.labels,
            eye=entry.eye,
            patient=entry.patient,
            distance=float(np.clip(1.0 - closeness, 0.0, 2.0)),
            vector=entry.vector,
        )

    @functools.cached_property
    def _pair_distances(self) -> Vector:
        count = len(self._entries)
        if count * (count - 1) // 2 <= MOST_PAIRS:
            first, second = np.triu_indices(count, 1)
        else:
            # Twice as many as wanted, since pairs with oneself and of one patient are dropped.
            draw = np.random.default_rng(PAIR_SEED).integers(0, count, (2, 2 * MOST_PAIRS))
            first, second = np.unique(np.sort(draw, axis=0), axis=1)
            shuffled = np.random.default_rng(PAIR_SEED).permutation(len(first))
            first, second = first[shuffled], second[shuffled]
        different = self._patients[first] != self._patients[second]
        first, second = first[different][:MOST_PAIRS], second[different][:MOST_PAIRS]
        if not len(first):
            return np.zeros(0, np.float32)
        products = np.einsum("ij,ij->i", self._vectors[first], self._vectors[second])
        distances: Vector = np.sort(np.clip(1.0 - products, 0.0, 2.0)).astype(np.float32)
        distances.setflags(write=False)
        return distances

    def random_pair_distances(self) -> Vector:
        """Sorted cosine distances of at most `MOST_PAIRS` pairs of different patients, (N,)."""
        return self._pair_distances
