"""The archive in the terms of langchain-core: a `VectorStore`, and encoders as `Embeddings`.

A document is a case without a picture, or an archived photograph; its id names it. Ids
that are the SHA-256 of an image file name that photograph; all others are documents.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

from fovea.archive.opening import AnyArchive
from fovea.archive.records import NewCase, Vector, labels_from_json
from fovea.archive.rows import CaseRow
from fovea.archive.store import CaseArchive
from fovea.contract import EVERY_CASE, CaseFilter, EncoderPlugin
from fovea.errors import ArchiveError, ConfigError
from fovea.image import open_photograph

DIGEST = re.compile(r"[0-9a-f]{64}")


class FoveaEmbeddings(Embeddings):
    """An image encoder as langchain-core sees it: a text is the name of a photograph.

    Args:
        encoder: A loaded encoder.
        folder: Where the photographs are; names may not lead out of it.
    """

    def __init__(self, encoder: EncoderPlugin[Any], folder: Path) -> None:
        self.encoder, self.folder = encoder, folder.resolve()

    @property
    def encoder_id(self) -> str:
        """Id of the encoder, under which the archive keeps its vectors."""
        return self.encoder.encoder_id

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The unit vectors of the photographs with these names.

        Raises:
            ConfigError: a name leads out of the folder.
            ImageError: a photograph cannot be read.
        """
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """The unit vector of the photograph with this name."""
        path = (self.folder / text).resolve()
        if not path.is_relative_to(self.folder):
            raise ConfigError(
                "The name of the photograph leads out of the folder", where="FoveaEmbeddings"
            )
        return [float(value) for value in self.encoder.embed(open_photograph(path))]


class FoveaVectorStore(VectorStore):
    """The case archive as a langchain-core vector store.

    Args:
        archive: Where documents and vectors are kept.
        embedding: What turns texts (or names of photographs) into vectors.
        encoder_id: Name of the embedding; vectors of others are never mixed in.

    Example:
        >>> store = FoveaVectorStore(archive, embedding, encoder_id="e1")  # doctest: +SKIP
        >>> store.add_texts(["drusen in both eyes"], ids=["note-1"])       # doctest: +SKIP
        ['note-1']
    """

    def __init__(self, archive: AnyArchive, embedding: Embeddings, *, encoder_id: str) -> None:
        self.archive, self._embedding, self.encoder_id = archive, embedding, encoder_id

    @property
    def embeddings(self) -> Embeddings:
        """What turns texts into vectors."""
        return self._embedding

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Archive texts, all of them or none; a known id is replaced. The ids.

        Raises:
            ArchiveError: not as many metadata or ids as texts, or not written.
        """
        listed = list(texts)
        metadata = metadatas if metadatas is not None else [{} for _ in listed]
        names = [name or uuid.uuid4().hex for name in ids or [None] * len(listed)]
        if not len(listed) == len(metadata) == len(names):
            raise ArchiveError(
                "Texts, metadata and ids do not belong together",
                where="add_texts",
                why=f"There are {len(listed)}, {len(metadata)} and {len(names)} of them",
            )
        vectors = self._embedding.embed_documents(listed)
        self.archive.add_many(
            [
                NewCase(
                    _key(name), self.encoder_id, np.asarray(vector, np.float32), thumbnail=None,
                    evidence={"id": name, "text": text, "metadata": about},
                )
                for name, text, about, vector in zip(names, listed, metadata, vectors, strict=True)
            ]
        )  # fmt: skip
        return names

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Delete documents; ids that are not there are passed over.

        Raises:
            ArchiveError: no ids are given.
        """
        if ids is None:
            raise ArchiveError("Which documents to delete is not said", where="delete")
        for name in ids:
            row = self.archive.case(_key(name))
            if row is not None:
                self.archive.remove(row.case_id)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents with these ids; those that are not there are passed over."""
        rows = [self.archive.case(_key(name)) for name in ids]
        return [_document(row) for row in rows if row is not None]

    def similarity_search(
        self, query: str, k: int = 4, *, wanted: CaseFilter = EVERY_CASE, **kwargs: Any
    ) -> list[Document]:
        """The `k` nearest documents to a text (or to the name of a photograph)."""
        found = self.similarity_search_with_score(query, k, wanted=wanted)
        return [document for document, _ in found]

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, *, wanted: CaseFilter = EVERY_CASE, **kwargs: Any
    ) -> list[Document]:
        """The `k` nearest documents to a vector."""
        return [document for document, _ in self._nearest(_array(embedding), k, wanted)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, *, wanted: CaseFilter = EVERY_CASE, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The `k` nearest documents with their cosine distances, 0 to 2."""
        return self._nearest(_array(self._embedding.embed_query(query)), k, wanted)

    def _nearest(self, vector: Vector, k: int, wanted: CaseFilter) -> list[tuple[Document, float]]:
        cases = self.archive.search(self.encoder_id, vector, k, wanted=wanted)
        rows = [(self.archive.case(case.sha256), case.distance) for case in cases]
        return [(_document(row), distance) for row, distance in rows if row is not None]

    def _select_relevance_score_fn(self) -> Any:
        return self._cosine_relevance_score_fn

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        folder: Path | None = None,
        encoder_id: str = "langchain",
        **kwargs: Any,
    ) -> FoveaVectorStore:
        """A store in a folder, filled with texts.

        Raises:
            ConfigError: no folder is given.
        """
        if folder is None:
            raise ConfigError("`from_texts` needs the folder of an archive", where="folder")
        store = cls(CaseArchive.open(folder), embedding, encoder_id=encoder_id)
        store.add_texts(texts, metadatas, ids=ids)
        return store


def _key(name: str) -> str:
    if DIGEST.fullmatch(name):
        return name
    return hashlib.sha256(b"fovea document " + name.encode()).hexdigest()


def _array(values: list[float]) -> Vector:
    return np.asarray(values, np.float32)


def _document(row: CaseRow) -> Document:
    evidence = json.loads(row.evidence) if row.evidence else {}
    if "text" in evidence:
        return Document(
            id=evidence["id"], page_content=evidence["text"], metadata=evidence["metadata"]
        )
    return Document(id=row.sha256, page_content=_said(row), metadata=_known(row))


def _known(row: CaseRow) -> dict[str, Any]:
    known: Mapping[str, Any] = {
        "case_id": row.case_id, "eye": row.eye, "device": row.device, "date": row.date,
        "labels": [label.name for label in labels_from_json(row.labels)] or None,
    }  # fmt: skip
    return {name: value for name, value in known.items() if value is not None}


def _said(row: CaseRow) -> str:
    labels = [label.name for label in labels_from_json(row.labels)]
    return f"{row.case_id}: {', '.join(labels) or 'no label'}" + (f", {row.eye}" if row.eye else "")
