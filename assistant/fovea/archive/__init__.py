"""The case archive: archived photographs that can be found by likeness."""

from fovea.archive.ingest import IngestEvent, index_folder
from fovea.archive.store import CaseArchive, Label, NewCase

__all__ = ["CaseArchive", "IngestEvent", "Label", "NewCase", "index_folder"]
