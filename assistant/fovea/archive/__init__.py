"""The case archive: archived photographs that can be found by likeness."""

from typing import TYPE_CHECKING, Any

from fovea.archive.ingest import Embedding, IngestEvent, index_folder
from fovea.archive.opening import AnyArchive, open_archive
from fovea.archive.store import CaseArchive, Label, NearDuplicate, NewCase

if TYPE_CHECKING:
    from fovea.archive.documents import FoveaEmbeddings, FoveaVectorStore

__all__ = [
    "AnyArchive",
    "CaseArchive",
    "Embedding",
    "FoveaEmbeddings",
    "FoveaVectorStore",
    "IngestEvent",
    "Label",
    "NearDuplicate",
    "NewCase",
    "index_folder",
    "open_archive",
]


def __getattr__(name: str) -> Any:
    # langchain-core's vector stores take half a second to import; most commands need none.
    if name in {"FoveaEmbeddings", "FoveaVectorStore"}:
        from fovea.archive import documents

        return getattr(documents, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
