"""The search of one encoder's cases: catalogue, index, and what was added since."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable

import numpy as np

from fovea.archive.cache import IndexCache, Stored
from fovea.archive.catalogue import Catalogue, Numbers, numbers_of
from fovea.archive.faults import damaged
from fovea.archive.index import VectorIndex, WantedKind, build_index
from fovea.archive.ledger import read_facts
from fovea.archive.records import Vector, unit_vector
from fovea.archive.rows import VECTOR_COLUMNS, VectorRow
from fovea.contract import CaseFilter
from fovea.errors import ArchiveError
from fovea.services import Case

MOST_LOOSE = 1000
"""Changes since the index was built, from which on (or from a tenth on) it is built again."""
COMPARED_ONE_BY_ONE = 2000
"""A filter that leaves at most so many cases is answered without an approximate index."""
MOST_PAIRS = 5000
PAIRED_CASES = 2000
PAIR_SEED = 20250
AT_ONCE = 500


class EncoderSearch:
    """Finds the nearest cases of one encoder. Not safe for threads: the archive locks it."""

    def __init__(self, encoder_id: str, cache: IndexCache) -> None:
        self.encoder_id = encoder_id
        self.catalogue = Catalogue(encoder_id)
        self._cache = cache
        self._stored: Stored | None = None
        self._at = ("", -1)  # what the fields below belong to
        self._indexed: set[int] = set()
        self._indexed_dead: set[int] = set()
        self._loose = (np.zeros(0, np.int64), np.zeros((0, 0), np.float32))
        self._pairs: Vector | None = None

    @property
    def index(self) -> VectorIndex | None:
        """The index in use; None for an empty archive."""
        return self._stored.index if self._stored else None

    def refresh(self, run: sqlite3.Connection) -> None:
        """Bring everything up to date with the database.

        Raises:
            Damaged: the database does not hold what was written.
        """
        went_on = self.catalogue.refresh(run)
        now = (self.catalogue.archive, self.catalogue.generation)
        if self._at == now:
            return
        self._pairs = None
        if not went_on or self._stored is None:
            archive, newest = self.catalogue.archive, self.catalogue.generation
            self._use(self._cache.load(archive, newest=newest) if self.catalogue.entries else None)
        if not self._sort_out(run):
            self.build(run)
        self._at = now

    @property
    def _entries(self) -> Numbers:
        return self.catalogue.numbers()

    def _use(self, stored: Stored | None) -> None:
        self._stored = stored
        self._indexed = set(stored.index.numbers().tolist()) if stored else set()

    def _sort_out(self, run: sqlite3.Connection) -> bool:
        """Split the cases into indexed and loose ones. False when the index does not serve."""
        entries = self.catalogue.entries
        if self._stored is None:
            self._loose = (np.zeros(0, np.int64), np.zeros((0, 0), np.float32))
            return not entries
        since = self._stored.generation
        loose = [n for n, entry in entries.items() if entry.generation > since]
        if not set(entries).difference(loose) <= self._indexed:
            return False  # a case that the index should hold is not in it
        self._indexed_dead = self._indexed - set(entries) | self._indexed & set(loose)
        if len(loose) + len(self._indexed_dead) > max(MOST_LOOSE, len(self._indexed) // 10):
            return False
        numbers = numbers_of(loose)
        vectors = self._read(run, numbers)
        if len(numbers) and vectors.shape[1] != self._stored.index.dim:
            return False  # every older case was removed, and the encoder has another length now
        self._loose = (numbers, vectors)
        return True

    def build(self, run: sqlite3.Connection, *, keep_old: bool = True) -> None:
        """Build the index from the database, and store it."""
        numbers = self._entries
        if not keep_old:
            self._cache.forget()
        if not len(numbers):
            self._use(None)
            return
        wanted: WantedKind = read_facts(run)["kind"]  # type: ignore[assignment]
        index = build_index(wanted, numbers, self._read(run, numbers))
        generation = self.catalogue.generation
        self._use(Stored(index, generation))
        self._cache.save(index, self.catalogue.archive, generation)
        self._indexed_dead = set()
        self._loose = (np.zeros(0, np.int64), np.zeros((0, index.dim), np.float32))

    def _read(self, run: sqlite3.Connection, numbers: Numbers) -> Vector:
        """The checked vectors of these cases, (N, D)."""
        vectors = self._rows(run, numbers)
        if not len(numbers):
            return np.zeros((0, 0), np.float32)
        return np.stack([vectors[int(n)] for n in numbers])

    def _rows(self, run: sqlite3.Connection, numbers: Iterable[int]) -> dict[int, Vector]:
        entries = self.catalogue.entries
        wanted = {entries[int(n)].sha256: int(n) for n in numbers}
        names = list(wanted)
        found: dict[int, Vector] = {}
        for start in range(0, len(names), AT_ONCE):
            part = names[start : start + AT_ONCE]
            query = (
                f"SELECT {VECTOR_COLUMNS} FROM embeddings WHERE encoder_id = ? "  # noqa: S608
                f"AND sha256 IN ({', '.join('?' * len(part))})"
            )
            for row in run.execute(query, (self.encoder_id, *part)):
                vector = VectorRow(*row)
                number = wanted[vector.sha256]
                if vector.checked(entries[number].case_id).vector_sha256 != (
                    entries[number].vector_sha256
                ):
                    raise damaged(entries[number].case_id, "Its vector is another one")
                found[number] = vector.values()
        if len(found) != len(wanted):
            raise damaged("archive", "Vectors are missing")
        return found

    def nearest(
        self, run: sqlite3.Connection, query: Vector, k: int, banned: set[int], wanted: CaseFilter
    ) -> list[Case]:
        """The nearest `k` cases that pass the filter and are not banned, nearest first."""
        index = self.index
        if index is None:
            return []
        check_length(self.encoder_id, query, index.dim)
        filtered = CaseFilter(fellow_eye=wanted.fellow_eye) != wanted
        allowed = self.catalogue.fitting(wanted) - banned if filtered else None
        chosen = self._candidates(index, query, k, banned, allowed)
        vectors = self._rows(run, chosen)
        cases = [self._case(number, query, vector) for number, vector in vectors.items()]
        return sorted(cases, key=lambda case: (case.distance, case.case_id))[:k]

    def _candidates(
        self, index: VectorIndex, query: Vector, k: int, banned: set[int], allowed: set[int] | None
    ) -> set[int]:
        if allowed is not None and len(allowed) <= COMPARED_ONE_BY_ONE:
            return allowed
        numbers, vectors = self._loose
        chosen = set()
        if len(numbers):
            keep = [n not in banned and (allowed is None or n in allowed) for n in numbers.tolist()]
            numbers, vectors = numbers[keep], vectors[keep]
            chosen.update(numbers[np.argsort(-(vectors @ query), kind="stable")[:k]].tolist())
        dead = self._indexed_dead
        among = None if allowed is None else numbers_of((allowed & self._indexed) - dead)
        found = index.candidates(query[None], k, banned=numbers_of(banned | dead), allowed=among)
        return chosen | {int(number) for number in found[0] if number >= 0}

    def _case(self, number: int, query: Vector, vector: Vector) -> Case:
        entry = self.catalogue.entries[number]
        return Case(
            case_id=entry.case_id,
            sha256=entry.sha256,
            labels=entry.labels,
            eye=entry.eye,
            patient=entry.patient,
            distance=cosine_distance(query, vector),
            vector=vector,
        )

    def random_pair_distances(self, run: sqlite3.Connection) -> Vector:
        """Sorted cosine distances of at most `MOST_PAIRS` pairs of different patients, (N,)."""
        if self._pairs is None:
            self._pairs = self._drawn_pairs(run)
            self._pairs.setflags(write=False)
        return self._pairs

    def _drawn_pairs(self, run: sqlite3.Connection) -> Vector:
        def described(numbers: Numbers) -> tuple[list[str], Vector]:
            entries = [self.catalogue.entries[int(n)] for n in numbers]
            return [e.patient or e.case_id for e in entries], self._read(run, numbers)

        return drawn_pair_distances(self._entries, described)


def checked_query(encoder_id: str, vector: Vector, k: int) -> Vector:
    """The vector asked about, of length 1.

    Raises:
        ArchiveError: `k` is below 1, or the vector has no direction.
    """
    if k < 1:
        raise ArchiveError(f"`k` is {k}", where="archive", why="It must be at least 1")
    return unit_vector(vector, where=encoder_id)


def check_length(encoder_id: str, query: Vector, dim: int) -> None:
    """Refuse a vector that is not as long as the archived ones.

    Raises:
        ArchiveError: naming both lengths.
    """
    if query.shape[0] != dim:
        raise ArchiveError(
            f"A vector of length {query.shape[0]} cannot be looked up",
            where=f"archive, encoder `{encoder_id}`",
            why=f"The archived vectors have length {dim}",
            fix="Use the encoder that filled the archive, or add the photographs again",
        )


def cosine_distance(first: Vector, second: Vector) -> float:
    """Cosine distance of two unit vectors (D,), 0 to 2."""
    return float(np.clip(1.0 - first @ second, 0.0, 2.0))


def drawn_pair_distances(
    numbers: Numbers, described: Callable[[Numbers], tuple[list[str], Vector]]
) -> Vector:
    """Sorted cosine distances of at most `MOST_PAIRS` pairs of different patients, (N,).

    Args:
        numbers: Every case, ascending, (N,).
        described: Gives patients (the case itself where unknown) and unit vectors (n, D)
            of some of them.
    """
    drawn = np.random.default_rng(PAIR_SEED)
    numbers = np.sort(drawn.permutation(numbers)[:PAIRED_CASES])
    first, second = np.triu_indices(len(numbers), 1)
    if not len(first):
        return np.zeros(0, np.float32)
    if len(first) > MOST_PAIRS:
        # Twice as many as wanted, since pairs of one patient are dropped.
        chosen = drawn.choice(len(first), min(2 * MOST_PAIRS, len(first)), replace=False)
        first, second = first[chosen], second[chosen]
    names, vectors = described(numbers)
    patients = np.array(names, dtype=object)
    different = patients[first] != patients[second]
    first, second = first[different][:MOST_PAIRS], second[different][:MOST_PAIRS]
    products = np.einsum("ij,ij->i", vectors[first], vectors[second])
    return np.sort(np.clip(1.0 - products, 0.0, 2.0)).astype(np.float32)
