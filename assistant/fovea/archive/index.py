"""FAISS indexes: built from the archive's vectors, measured, searched for candidates.

An index only proposes cases: what is returned is compared again with the vectors of
the database. Up to `FLAT_UP_TO` vectors all are compared; above, inverted lists (IVF)
or a graph (HNSW), whose recall is measured at every build; from `SQ8_FROM` on the
lists hold 8-bit vectors. Johnson 2021, doi:10.1109/TBDATA.2019.2921572; Malkov 2020,
doi:10.1109/TPAMI.2018.2889473.
"""

from __future__ import annotations

import importlib
import logging
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from fovea.archive.catalogue import Numbers
from fovea.archive.records import Vector

Kind = Literal["flat", "hnsw", "ivf", "ivf_sq8"]
WantedKind = Literal["auto", "flat", "hnsw", "ivf", "ivf_sq8"]
WANTED_KINDS: tuple[WantedKind, ...] = get_args(WantedKind)

FLAT_UP_TO = 50_000
SQ8_FROM = 1_000_000
LEAST_RECALL = 0.95
"""Below this recall@10 the approximate index is given up for an exact one."""
GOOD_RECALL = 0.98
"""Until it is reached the lists or the graph are searched wider."""
QUERIES = 200
SEED = 20250
HNSW_LINKS, HNSW_BUILD = 32, 80
WIDE = (8, 16, 32, 64, 128, 192, 256)
WIDTHS = {"ivf": WIDE, "ivf_sq8": WIDE, "hnsw": (32, 64, 128, 256)}
"""How many lists, or how long a list of candidates, a search looks through: tried in turn."""
RERANK = 4
"""Candidates per wanted case where the index holds rounded vectors."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VectorIndex:
    """A FAISS index whose ids are case numbers.

    Attributes:
        width: Lists or candidates looked through; None for the exact index.
        recall_at_10: Share of the ten nearest that it finds, over `QUERIES` archived
            vectors asked without themselves; None for the exact index.
    """

    faiss_index: Any = field(repr=False)
    kind: Kind
    width: int | None
    recall_at_10: float | None

    @property
    def count(self) -> int:
        """Number of vectors."""
        return int(self.faiss_index.ntotal)

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return int(self.faiss_index.d)

    def numbers(self) -> Numbers:
        """The case numbers of the vectors, ascending, (N,)."""
        import faiss

        index = self.faiss_index
        if self.kind in ("flat", "hnsw"):
            ids = faiss.vector_to_array(index.id_map)
        else:
            lists = index.invlists
            ids = np.concatenate(
                [
                    faiss.rev_swig_ptr(lists.get_ids(i), lists.list_size(i)).copy()
                    for i in range(index.nlist)
                    if lists.list_size(i)
                ]
                or [np.zeros(0, np.int64)]
            )
        return np.sort(ids.astype(np.int64))

    def candidates(
        self, queries: Vector, k: int, *, banned: Numbers, allowed: Numbers | None = None
    ) -> Numbers:
        """Numbers of the nearest vectors (Q, at least k), nearest first; -1 where there are none.

        Args:
            queries: (Q, D) float32 of unit length.
            k: Most wanted.
            banned: Never returned.
            allowed: Only these are returned; None: all but the banned.
        """
        import faiss

        # Named, so that they outlive the search: faiss keeps only pointers to them.
        batch = faiss.IDSelectorBatch(banned if allowed is None else allowed)
        chosen = faiss.IDSelectorNot(batch) if allowed is None else batch
        parameters = self._parameters(1.0 if allowed is None else len(allowed) / self.count)
        parameters.sel = chosen
        found = self.faiss_index.search(
            queries, k * RERANK if self.kind == "ivf_sq8" else k, params=parameters
        )
        return np.asarray(found[1], np.int64)

    def _parameters(self, share: float) -> Any:
        """Search parameters; the search is wider where few vectors are allowed."""
        faiss: Any = importlib.import_module("faiss")  # its type stubs lack these classes
        if self.width is None:
            return faiss.SearchParameters()
        width = int(self.width / max(share, 1e-3))
        if self.kind == "hnsw":
            return faiss.SearchParametersHNSW(efSearch=min(width, 4096))
        return faiss.SearchParametersIVF(nprobe=min(width, self.faiss_index.nlist))


def build_index(wanted: WantedKind, numbers: Numbers, vectors: Vector) -> VectorIndex:
    """An index over vectors (N, D) of unit length with these case numbers (N,).

    `auto` chooses by size. An approximate index that finds less than `LEAST_RECALL`
    of the ten nearest is replaced by the exact one, and that is logged.
    """
    kind = kind_for(len(numbers)) if wanted == "auto" else wanted
    if kind == "flat":
        return _flat(numbers, vectors)
    built = _approximate(kind, numbers, vectors)
    exact = _exact_neighbours(vectors)
    for width in WIDTHS[kind]:
        tried = VectorIndex(built, kind, width, None)
        recall = _recall(tried, numbers, vectors, exact)
        log.info("%s index, width %d: recall@10 %.3f", kind, width, recall)
        if recall >= GOOD_RECALL:
            break
    if recall < LEAST_RECALL:
        log.warning("%s finds %.1f %% of the ten nearest: using Flat", kind, 100 * recall)
        return _flat(numbers, vectors)
    return VectorIndex(built, kind, width, recall)


def kind_for(count: int) -> Kind:
    """The kind of index that `auto` chooses for so many vectors."""
    if count <= FLAT_UP_TO:
        return "flat"
    # IVF before HNSW: a third of the time to build, and no more memory than the vectors.
    return "ivf" if count < SQ8_FROM else "ivf_sq8"


def _flat(numbers: Numbers, vectors: Vector) -> VectorIndex:
    import faiss

    index = faiss.IndexIDMap2(faiss.IndexFlatIP(vectors.shape[1]))
    index.add_with_ids(vectors, numbers)
    return VectorIndex(index, "flat", None, None)


def _approximate(kind: Kind, numbers: Numbers, vectors: Vector) -> Any:
    import faiss

    count, dim = vectors.shape
    index: Any
    if kind == "hnsw":
        graph = faiss.IndexHNSWFlat(dim, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = HNSW_BUILD
        index = faiss.IndexIDMap2(graph)
        index.add_with_ids(vectors, numbers)
        return index
    lists = max(1, min(4096, int(4 * np.sqrt(count)), count // 39))
    coarse = faiss.IndexFlatIP(dim)
    if kind == "ivf":
        index = faiss.IndexIVFFlat(coarse, dim, lists, faiss.METRIC_INNER_PRODUCT)
    else:
        index = faiss.IndexIVFScalarQuantizer(
            coarse, dim, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )
    sample = np.random.default_rng(SEED).permutation(count)[: 64 * lists]
    index.train(vectors[np.sort(sample)])
    index.add_with_ids(vectors, numbers)
    return index


def _asked(count: int) -> Numbers:
    return np.sort(np.random.default_rng(SEED).permutation(count)[:QUERIES]).astype(np.int64)


def _exact_neighbours(vectors: Vector) -> Numbers:
    """Positions of the ten nearest of each asked vector, without itself, (Q, 10)."""
    import faiss

    asked = _asked(len(vectors))
    _, found = faiss.knn(vectors[asked], vectors, 11, metric=faiss.METRIC_INNER_PRODUCT)
    return _without_itself(found, asked)


def _without_itself(found: Numbers, asked: Numbers) -> Numbers:
    rows = [row[row != own][:10] for row, own in zip(found, asked, strict=True)]
    return np.array(rows, np.int64)


def _recall(index: VectorIndex, numbers: Numbers, vectors: Vector, exact: Numbers) -> float:
    asked = _asked(len(vectors))
    nobody = np.zeros(0, np.int64)
    hits = 0
    for position, neighbours in zip(asked, exact, strict=True):
        found = index.candidates(vectors[position][None], 11, banned=nobody)[0]
        at = np.searchsorted(numbers, found[found >= 0])
        near = at[np.argsort(-(vectors[at] @ vectors[position]), kind="stable")]
        near = near[near != position][:10]
        hits += len(np.intersect1d(near, neighbours))
    return hits / (10 * len(asked))
