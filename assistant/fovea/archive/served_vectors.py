"""The vectors of one encoder on the server: a table and a view, searched by PGVectorStore.

PGVectorStore makes the table, builds the index (HNSW; Malkov 2020,
doi:10.1109/TPAMI.2018.2889473) and searches. It commits row by row, so rows are written
by the archive itself, within the transaction of their cases.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_postgres import Column, PGVectorStore
from langchain_postgres.v2.indexes import HNSWIndex, QueryOptions
from sqlalchemy import Connection, text

from fovea.archive.catalogue import Numbers
from fovea.archive.faults import damaged
from fovea.archive.index import GOOD_RECALL, LEAST_RECALL, QUERIES, SEED
from fovea.archive.records import Vector, labels_from_json
from fovea.archive.rows import CaseRow, VectorRow
from fovea.archive.searching import cosine_distance
from fovea.archive.server import SCHEMA, Server
from fovea.services import Case

ServedKind = Literal["flat", "hnsw"]

LINKS, BUILD_WIDTH = 16, 128
WIDTHS = (64, 128, 256, 512)
"""Candidates that a search of the graph keeps: tried in turn until the recall is good."""
LONGEST = 2000
"""pgvector indexes no longer vectors."""
WIDEST = 1000
"""pgvector keeps no more candidates."""
READ_AT_ONCE = 1000
PLACE_COLUMNS = "encoder_id, place, dim, width, recall_at_10"
VECTOR_IN_VIEW = ("generation", "vector_sha256")
CASE_IN_VIEW = (
    "case_sha256", "patient", "eye", "device", "labels", "taken", "evidence", "phash",
    "picture_sha256", "added", "case_generation", "row_sha256",
)  # fmt: skip
"""What a `CaseRow` holds, in its order, besides the number."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where the vectors of an encoder are, as the table `encoders` says.

    Attributes:
        width: Candidates that a search of the graph keeps; None: all vectors are compared.
        recall_at_10: As measured when the graph was built.
    """

    encoder_id: str
    place: str
    dim: int
    width: int | None
    recall_at_10: float | None

    @property
    def table(self) -> str:
        """Name of the table of the vectors."""
        return f"vectors_{self.place}"

    @property
    def view(self) -> str:
        """Name of the view that joins them with what is known of the cases."""
        return f"search_{self.place}"


@dataclass(frozen=True)
class Found:
    """A vector and the case of the same number, as read and not yet checked."""

    case: CaseRow
    vector: VectorRow

    def checked_vector(self) -> VectorRow:
        """The vector. Raises `Damaged` where it is altered, or that of another photograph."""
        if self.case.sha256 != self.vector.sha256:
            raise damaged(self.case.case_id, "Its vector is that of another photograph")
        return self.vector.checked(self.case.case_id)

    def checked(self) -> Found:
        """Both rows. Raises `Damaged` where one is altered."""
        self.checked_vector()
        self.case.checked()
        return self


@dataclass(frozen=True)
class ServedIndex:
    """How the vectors of an encoder are searched.

    Attributes:
        recall_at_10: Share of the ten nearest that the graph finds, over at most `QUERIES`
            archived vectors asked without themselves; None where all are compared.
    """

    kind: ServedKind
    count: int
    recall_at_10: float | None


@dataclass
class _Options(QueryOptions):
    """Settings of the server for one query."""

    settings: tuple[str, ...]

    def to_parameter(self) -> list[str]:
        return list(self.settings)

    def to_string(self) -> str:
        return ", ".join(self.settings)


EXACT = _Options(("enable_indexscan = off",))


class _VectorsOnly(Embeddings):
    """PGVectorStore asks for an embedding; the archive gives it vectors."""

    def embed_documents(self, texts: list[str]) -> NoReturn:
        raise NotImplementedError

    def embed_query(self, text: str) -> NoReturn:
        raise NotImplementedError


def read_place(run: Connection, encoder_id: str) -> Place | None:
    """Where the vectors of an encoder are; None when it has embedded nothing so far."""
    query = f"SELECT {PLACE_COLUMNS} FROM {SCHEMA}.encoders WHERE encoder_id = :name"  # noqa: S608
    found = run.execute(text(query), {"name": encoder_id}).one_or_none()
    return Place(*found) if found else None


def read_places(run: Connection) -> list[Place]:
    """Where the vectors of all encoders are, by name."""
    query = f"SELECT {PLACE_COLUMNS} FROM {SCHEMA}.encoders ORDER BY encoder_id"  # noqa: S608
    return [Place(*found) for found in run.execute(text(query))]


def make_place(server: Server, run: Connection, encoder_id: str, dim: int) -> Place:
    """Make table and view for an encoder, within a change of the archive."""
    name = hashlib.sha256(f"{dim}:{encoder_id}".encode()).hexdigest()[:16]
    place = Place(encoder_id, name, dim, None, None)
    # Joined by number alone: a vector of another photograph shall be told, not missing, and by
    # two columns the planner expects so few rows that it takes no graph where there are filters.
    # The table comes from another connection: one that a broken-off change left is replaced.
    server.vectors.init_vectorstore_table(
        place.table,
        dim,
        schema_name=SCHEMA,
        id_column=Column("number", "BIGINT"),
        content_column="sha256",
        metadata_columns=[
            Column("generation", "BIGINT", nullable=False),
            Column("vector_sha256", "TEXT", nullable=False),
        ],
        store_metadata=False,
        overwrite_existing=True,
    )
    made = f"""
        ALTER TABLE {SCHEMA}.{place.table} ADD FOREIGN KEY (number)
            REFERENCES {SCHEMA}.cases ON DELETE CASCADE;
        CREATE VIEW {SCHEMA}.{place.view} AS
            SELECT v.number, v.sha256, v.embedding, v.embedding AS stored, v.generation,
                v.vector_sha256, c.patient, c.eye, c.device, c.labels, c.date AS taken,
                c.evidence, c.phash, c.picture_sha256, c.added, c.generation AS case_generation,
                c.row_sha256, c.sha256 AS case_sha256
            FROM {SCHEMA}.{place.table} v JOIN {SCHEMA}.cases c USING (number);
    """  # noqa: S608 - the name is a digest
    run.execute(text(made))
    insert = f"INSERT INTO {SCHEMA}.encoders VALUES (:encoder_id, :place, :dim)"  # noqa: S608
    run.execute(text(insert), {"encoder_id": encoder_id, "place": name, "dim": dim})
    return place


def drop_place(run: Connection, place: Place) -> None:
    """Delete table and view of an encoder."""
    run.execute(text(f"DROP VIEW {SCHEMA}.{place.view}"))
    run.execute(text(f"DROP TABLE {SCHEMA}.{place.table}"))
    delete = f"DELETE FROM {SCHEMA}.encoders WHERE encoder_id = :name"  # noqa: S608
    run.execute(text(delete), {"name": place.encoder_id})


def count_vectors(run: Connection, place: Place) -> int:
    """Number of vectors of an encoder."""
    query = f"SELECT count(*) FROM {SCHEMA}.{place.table}"  # noqa: S608
    return int(run.execute(text(query)).scalar_one())


def has_vectors(run: Connection, place: Place) -> bool:
    """Whether the encoder has embedded any case that is still there."""
    query = f"SELECT EXISTS (SELECT FROM {SCHEMA}.{place.table})"  # noqa: S608
    return bool(run.execute(text(query)).scalar_one())


def vector_numbers(run: Connection, place: Place) -> Numbers:
    """Numbers of the cases that an encoder has embedded, ascending, (N,)."""
    query = f"SELECT number FROM {SCHEMA}.{place.table} ORDER BY number"  # noqa: S608
    return np.array(run.execute(text(query)).scalars().all(), np.int64)


def read_vectors(run: Connection, place: Place, numbers: Numbers | None = None) -> Iterator[Found]:
    """Vectors with their cases, not yet checked, of all cases or of those given, by number."""
    which = "" if numbers is None else "WHERE number = ANY(:numbers)"
    columns = ", ".join((*VECTOR_IN_VIEW, *CASE_IN_VIEW))
    query = (
        f"SELECT number, sha256, embedding::text AS stored, {columns} "  # noqa: S608
        f"FROM {SCHEMA}.{place.view} {which} ORDER BY number"
    )
    values = {} if numbers is None else {"numbers": numbers.tolist()}
    found = run.execute(text(query), values, execution_options={"yield_per": READ_AT_ONCE})
    for known in found.mappings():
        yield _found(place, known["number"], known["sha256"], known)


def _found(place: Place, number: int, sha256: str, known: Mapping[Any, Any]) -> Found:
    """The rows as a folder would hold them: the server keeps float16 values as float32."""
    half = np.asarray(json.loads(known["stored"]), "<f2").tobytes()
    vector = (place.encoder_id, place.dim, half, *(known[name] for name in VECTOR_IN_VIEW))
    case = (known[name] for name in CASE_IN_VIEW)
    return Found(CaseRow(number, *case), VectorRow(sha256, *vector))


def write_vector(run: Connection, place: Place, row: VectorRow) -> None:
    """Write a signed vector of a photograph that is archived."""
    values = np.frombuffer(row.vector, "<f2").astype(np.float32)
    query = f"""
        INSERT INTO {SCHEMA}.{place.table} (number, sha256, embedding, generation, vector_sha256)
        SELECT number, sha256, CAST(:vector AS vector), :generation, :digest
            FROM {SCHEMA}.cases WHERE sha256 = :sha256
        ON CONFLICT (number) DO UPDATE SET (embedding, generation, vector_sha256) =
            (excluded.embedding, excluded.generation, excluded.vector_sha256)
    """  # noqa: S608
    run.execute(
        text(query),
        {
            "sha256": row.sha256, "vector": str(values.tolist()),
            "generation": row.generation, "digest": row.vector_sha256,
        },
    )  # fmt: skip


def nearest(
    server: Server, place: Place, query: Vector, k: int, wanted: dict[str, Any] | None
) -> list[Case]:
    """The nearest `k` cases that pass the filter, nearest first."""
    found = _ask(server, _view(server, place, place.width, k), place, query, k, wanted)
    if len(found) < k and place.width is not None:
        # The graph gives up after some thousand cases that do not pass.
        found = _ask(server, _view(server, place, None, k), place, query, k, wanted)
    return found


def _view(server: Server, place: Place, width: int | None, k: int) -> PGVectorStore:
    """The view of an encoder, searched by its graph, or exactly where the width is None."""
    kept = min(max(width or 0, k), WIDEST)
    graph = _Options((f"hnsw.ef_search = {kept}", "hnsw.iterative_scan = strict_order"))
    columns = ["stored", *VECTOR_IN_VIEW, *CASE_IN_VIEW]
    return _store(server, place.view, EXACT if width is None else graph, columns)


def _ask(
    server: Server,
    store: PGVectorStore,
    place: Place,
    query: Vector,
    k: int,
    wanted: dict[str, Any] | None,
) -> list[Case]:
    values = [float(value) for value in query]
    with server.told():
        found = store.similarity_search_with_score_by_vector(values, k=k, filter=wanted)
        return _cases(place, query, found)


def _cases(place: Place, query: Vector, found: list[tuple[Document, float]]) -> list[Case]:
    cases = []
    for document, _ in found:
        both = _found(place, int(document.id or 0), document.page_content, document.metadata)
        row, vector = both.checked().case, both.vector.values()
        cases.append(
            Case(
                case_id=row.case_id,
                sha256=row.sha256,
                labels=tuple(dict.fromkeys(label.name for label in labels_from_json(row.labels))),
                eye=row.eye,
                patient=row.patient,
                distance=cosine_distance(query, vector),
                vector=vector,
            )
        )
    return sorted(cases, key=lambda case: (case.distance, case.case_id))


def build(server: Server, place: Place, kind: ServedKind) -> ServedIndex:
    """Drop the graph, and build it anew where the kind is `hnsw`.

    A graph that finds less than `LEAST_RECALL` of the ten nearest is dropped again, and
    that is logged.
    """
    table = _store(server, place.table, None, [])
    with server.told():
        table.drop_vector_index()
    _note(server, place, None, None)
    with server.read() as run:
        count = count_vectors(run, place)
    if kind == "flat" or count < 2:
        return ServedIndex("flat", count, None)
    with server.told():
        table.apply_vector_index(HNSWIndex(m=LINKS, ef_construction=BUILD_WIDTH))
    asked = _asked(server, place)
    exact = _ten_nearest(server, place, asked, None)
    for width in WIDTHS:
        found = _ten_nearest(server, place, asked, width)
        hits = sum(len(f & e) for f, e in zip(found, exact, strict=True))
        recall = hits / sum(len(e) for e in exact)
        log.info("hnsw graph, width %d: recall@10 %.3f", width, recall)
        if recall >= GOOD_RECALL:
            break
    if recall < LEAST_RECALL:
        log.warning("the graph finds %.1f %% of the ten nearest: not used", 100 * recall)
        with server.told():
            table.drop_vector_index()
        return ServedIndex("flat", count, None)
    _note(server, place, width, recall)
    return ServedIndex("hnsw", count, recall)


def _store(
    server: Server, name: str, options: QueryOptions | None, columns: list[str]
) -> PGVectorStore:
    try:
        with server.told():
            return PGVectorStore.create_sync(
                server.vectors,
                _VectorsOnly(),
                name,
                schema_name=SCHEMA,
                id_column="number",
                content_column="sha256",
                metadata_columns=columns,
                index_query_options=options,
            )
    except ValueError as error:  # a column or the whole table is missing
        raise server.other_layout(f"In `{name}`: {error}") from error


def _note(server: Server, place: Place, width: int | None, recall: float | None) -> None:
    query = (
        f"UPDATE {SCHEMA}.encoders SET (width, recall_at_10) = (:width, :recall) "  # noqa: S608
        "WHERE encoder_id = :name"
    )
    values = {"width": width, "recall": recall, "name": place.encoder_id}
    with server.change() as (run, _):
        run.execute(text(query), values)


def _asked(server: Server, place: Place) -> list[VectorRow]:
    """At most `QUERIES` archived vectors, drawn."""
    with server.read() as run:
        numbers = vector_numbers(run, place)
        drawn = np.sort(np.random.default_rng(SEED).permutation(numbers)[:QUERIES])
        return [found.checked_vector() for found in read_vectors(run, place, drawn)]


def _ten_nearest(
    server: Server, place: Place, asked: list[VectorRow], width: int | None
) -> list[set[str]]:
    """The ten nearest cases of each vector, without itself."""
    view, found = _view(server, place, width, 11), []
    for own in asked:
        cases = _ask(server, view, place, own.values(), 11, None)
        found.append({case.sha256 for case in [c for c in cases if c.sha256 != own.sha256][:10]})
    return found
