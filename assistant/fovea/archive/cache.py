"""FAISS indexes on disk: a cache that is believed only under its manifest.

faiss reads most damaged files as good vectors, so none is read before its SHA-256 has
been compared with the manifest, which bears a keyed digest (HMAC) of its own: neither
a damaged nor a foreign file reaches faiss. What fails is put into quarantine, and the
index is built again from the database.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fovea.archive.durable import draft_of, put_in_place, quarantine, sync_folder
from fovea.archive.index import VectorIndex

FOLDER = "index"
KEPT = 2
FORMAT = 1
STALE_S = 3600.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stored:
    """An index with the generation of the archive that it was built from."""

    index: VectorIndex
    generation: int


class IndexCache:
    """The stored indexes of one encoder in one archive."""

    def __init__(self, folder: Path, key: bytes, encoder_id: str) -> None:
        self._archive = folder
        self._key, self._encoder_id = key, encoder_id
        self._folder = folder / FOLDER / hashlib.sha256(encoder_id.encode()).hexdigest()[:16]

    def manifests(self) -> list[Path]:
        """The manifests, newest first."""
        return sorted(self._folder.glob("[0-9]*.json"), reverse=True)

    def load(self, archive_id: str, *, newest: int) -> Stored | None:
        """The newest sound index of this archive; None when there is none.

        Args:
            archive_id: Id that the database bears; another one's index is not used.
            newest: Present generation; a later one cannot be of this archive.
        """
        import faiss

        for manifest in self.manifests():
            try:
                facts = self._believed(manifest)
                if facts["archive"] != archive_id or not 0 <= facts["generation"] <= newest:
                    raise ValueError("it belongs to another archive or another state of it")
                faiss_index = faiss.read_index(str(_vectors_of(manifest)))
                if (faiss_index.ntotal, faiss_index.d) != (facts["count"], facts["dim"]):
                    raise ValueError("it holds other vectors than its manifest says")
            except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
                self._put_away(manifest, str(error))
                continue
            index = VectorIndex(faiss_index, facts["kind"], facts["width"], facts["recall_at_10"])
            return Stored(index, facts["generation"])
        return None

    def problems(self) -> list[str]:
        """What is wrong with the stored indexes, one sentence each."""
        found = []
        for manifest in self.manifests():
            try:
                self._believed(manifest)
            except (OSError, ValueError, KeyError, TypeError) as error:
                found.append(
                    f"The stored index `{manifest.stem}` is damaged ({error}); "
                    "it is not used and will be built again."
                )
        return found

    def save(self, index: VectorIndex, archive_id: str, generation: int) -> None:
        """Store an index and keep the last two. A disk that refuses costs only time."""
        import faiss

        try:
            for folder in (self._folder.parent, self._folder):
                folder.mkdir(mode=0o700, exist_ok=True)
            self._clear_drafts()
            manifest = self._folder / f"{generation:012d}.json"
            vectors = _vectors_of(manifest)
            draft = draft_of(vectors)
            faiss.write_index(index.faiss_index, str(draft))
            facts = {
                "format": FORMAT, "archive": archive_id, "encoder_id": self._encoder_id,
                "generation": generation, "kind": index.kind, "width": index.width,
                "recall_at_10": index.recall_at_10, "count": index.count, "dim": index.dim,
                "bytes": draft.stat().st_size, "sha256": _sha256(draft),
            }  # fmt: skip
            # The manifest goes first and comes last: none ever stands beside other vectors.
            manifest.unlink(missing_ok=True)
            put_in_place(draft, vectors)
            draft = draft_of(manifest)
            draft.write_text(json.dumps({**facts, "seal": self._seal(facts)}, indent=1))
            put_in_place(draft, manifest)
            for old in self.manifests()[KEPT:]:
                old.unlink()
                _vectors_of(old).unlink(missing_ok=True)
        except (OSError, RuntimeError) as error:
            log.warning("the index could not be stored and stays in memory: %s", error)

    def forget(self) -> None:
        """Delete every stored index, so that no removed vector is left in one."""
        for path in (*self.manifests(), *self._folder.glob("[0-9]*.faiss")):
            path.unlink(missing_ok=True)

    def _believed(self, manifest: Path) -> dict[str, Any]:
        facts = json.loads(manifest.read_text(encoding="utf-8"))
        if not isinstance(facts, dict):
            raise ValueError("the manifest is not an object")
        if not hmac.compare_digest(str(facts.pop("seal", "")), self._seal(facts)):
            raise ValueError("the manifest does not match its seal")
        if (facts["format"], facts["encoder_id"]) != (FORMAT, self._encoder_id):
            raise ValueError("it is of another release or another encoder")
        if _sha256(_vectors_of(manifest)) != facts["sha256"]:
            raise ValueError("the vectors do not match the manifest")
        return facts

    def _seal(self, facts: dict[str, Any]) -> str:
        text = json.dumps(facts, sort_keys=True).encode()
        return hmac.new(self._key, text, "sha256").hexdigest()

    def _put_away(self, manifest: Path, why: str) -> None:
        try:
            names = quarantine(self._archive, manifest, _vectors_of(manifest))
            log.warning("stored index %s is not used (%s); now %s", manifest.stem, why, names)
        except OSError as error:
            log.warning("stored index %s is not used (%s; %s)", manifest.stem, why, error)

    def _clear_drafts(self) -> None:
        """Delete what killed processes left; a young draft may be another one's at work."""
        whole = {_vectors_of(manifest) for manifest in self.manifests()}
        left = set(self._folder.glob(".*.draft")) | set(self._folder.glob("[0-9]*.faiss")) - whole
        for path in left:
            if time.time() - path.stat().st_mtime > STALE_S:
                path.unlink(missing_ok=True)
        sync_folder(self._folder)


def _vectors_of(manifest: Path) -> Path:
    return manifest.with_suffix(".faiss")


def _sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
