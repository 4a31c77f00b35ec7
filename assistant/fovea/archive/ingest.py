"""Add a folder of photographs to the archive, file by file, resumable."""

from __future__ import annotations

import csv
import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

import cv2

from fovea.archive.metadata import NOTHING_KNOWN, Metadata, read_metadata
from fovea.archive.records import NewCase, thumbnail_of
from fovea.archive.store import Added, CaseArchive, Outcome
from fovea.contract import EncoderPlugin
from fovea.errors import ArchiveError, Cancelled, ConfigError, FoveaError
from fovea.image import Photograph, open_photograph
from fovea.settings import Settings

log = logging.getLogger(__name__)

# What numerical code of an encoder may raise on one odd photograph; the next one may be fine.
ENCODER_FAULTS = (
    ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError,
    cv2.error,
)  # fmt: skip


@dataclass(frozen=True)
class IngestEvent:
    """What became of one file.

    Attributes:
        number, total: Position in the run, from 1.
        file: Path inside the folder, for the person at the screen; it is not stored.
        outcome: `updated` when only the metadata was new.
        case_id: The case, unless it failed.
        error, reason: Class of the error and the whole message, when it failed.
    """

    number: int
    total: int
    file: str
    outcome: Outcome | Literal["failed"]
    case_id: str | None = None
    error: str = ""
    reason: str = ""


def index_folder(
    archive: CaseArchive,
    encoder: EncoderPlugin[Any],
    *,
    folder: Path,
    metadata_csv: Path | None = None,
    accept: Callable[[Photograph], None] = lambda photograph: None,
    settings: Settings | None = None,
    errors_csv: Path | None = None,
) -> Iterator[IngestEvent]:
    """Archive every photograph in a folder and its subfolders; one event per file.

    Each photograph is on disk when its event arrives, so a stopped run is
    continued by starting it again: what is there is neither decoded nor
    embedded a second time. Hidden files and the metadata file are passed over.

    Args:
        archive: Where to.
        encoder: A loaded encoder.
        folder: Folder of photographs.
        accept: Raises an `ImageError` for a photograph that must not be archived.
        metadata_csv: See `read_metadata`. It is read whole before the first file.
        settings: Limits for opening; the defaults when omitted.
        errors_csv: Write `file, error, reason` of each failure here.

    Raises:
        ConfigError: the folder or the metadata cannot be used (at once).
        ArchiveError: the archive can no longer be written (while running).
    """
    if not folder.is_dir():
        raise ConfigError(
            f"There is no folder `{folder.name}`",
            where="index",
            why="The path does not exist or is a file",
            fix="Check the spelling",
        )
    metadata = read_metadata(metadata_csv) if metadata_csv else {}
    run = _Run(archive, encoder, settings or Settings(), metadata, accept)
    skipped = {path.resolve() for path in (metadata_csv, errors_csv) if path}
    files = _files(folder, skipped)
    return run.events(folder, sorted({*files, *metadata}), errors_csv)


def _files(folder: Path, skipped: set[Path]) -> list[str]:
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(parent, name) for name in names if not name.startswith(".")]
        found += [
            path.relative_to(folder).as_posix() for path in paths if path.resolve() not in skipped
        ]
    return found


class _Run:
    def __init__(
        self,
        archive: CaseArchive,
        encoder: EncoderPlugin[Any],
        settings: Settings,
        metadata: Mapping[str, Metadata],
        accept: Callable[[Photograph], None],
    ) -> None:
        self.archive, self.encoder, self.settings = archive, encoder, settings
        self.metadata, self.accept = metadata, accept
        self.seen: dict[str, tuple[str, Metadata]] = {}

    def events(
        self, folder: Path, files: list[str], errors_csv: Path | None
    ) -> Iterator[IngestEvent]:
        with ExitStack() as stack:
            failures = _Failures(stack.enter_context(_open(errors_csv))) if errors_csv else None
            for number, file in enumerate(files, start=1):
                event = self._event(number, len(files), folder / file, file)
                if failures and event.outcome == "failed":
                    failures.write(event)
                yield event

    def _event(self, number: int, total: int, path: Path, file: str) -> IngestEvent:
        try:
            done = self._archive(path, file)
        except (ArchiveError, Cancelled):
            raise  # would happen to every further file too
        except FoveaError as error:
            name, reason = error.code, str(error)
        except OSError as error:
            name, reason = "UnreadableImage", f"The file cannot be read: {error.strerror}."
        except ENCODER_FAULTS as error:
            log.exception("encoder %s failed on one photograph", self.encoder.encoder_id)
            name = "PluginFailed"
            reason = f"`{self.encoder.encoder_id}` failed on it ({type(error).__name__})."
        else:
            return IngestEvent(number, total, file, done.outcome, done.case_id)
        return IngestEvent(number, total, file, "failed", None, name, reason)

    def _archive(self, path: Path, file: str) -> Added:
        known = self.metadata.get(file, NOTHING_KNOWN)
        if not path.is_file():
            raise FoveaError(
                "The metadata names a file that is not there", where=f"line {known.line}"
            )
        with path.open("rb") as opened:
            sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
        self._refuse_contradiction(sha256, file, known)
        if self.archive.has(sha256, self.encoder.encoder_id):
            return self.archive.annotate(
                sha256,
                patient_id=known.patient_id,
                eye=known.eye,
                labels=known.labels,
                taken=known.taken,
                device=known.device,
            )
        image = open_photograph(path, "photograph", eye=known.eye, settings=self.settings)
        self.accept(image)
        case = NewCase(
            sha256=image.sha256,
            encoder_id=self.encoder.encoder_id,
            vector=self.encoder.embed(image),
            thumbnail=thumbnail_of(image),
            patient_id=known.patient_id,
            eye=image.eye,
            device=known.device,
            labels=known.labels,
            date=known.taken,
        )
        return self.archive.add(case)

    def _refuse_contradiction(self, sha256: str, file: str, known: Metadata) -> None:
        first, said = self.seen.setdefault(sha256, (file, known))
        if not said.same_as(known):
            raise FoveaError(
                f"The same photograph is also `{first}`, with other metadata",
                why=f"See lines {said.line} and {known.line} (0: no line) of the metadata",
                fix="Remove one of the files, or make the lines agree",
            )


def _open(path: Path) -> TextIO:
    try:
        return path.open("w", newline="", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"`{path.name}` cannot be written", where="index", why=error.strerror or ""
        ) from error


class _Failures:
    """Writes failures as they happen, so that a killed run leaves its list."""

    def __init__(self, opened: TextIO) -> None:
        self._opened, self._writer = opened, csv.writer(opened)
        self._writer.writerow(("file", "error", "reason"))
        opened.flush()

    def write(self, event: IngestEvent) -> None:
        self._writer.writerow((event.file, event.error, event.reason))
        self._opened.flush()
