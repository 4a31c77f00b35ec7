"""Add a folder of photographs to the archive, file by file, resumable."""

from __future__ import annotations

import csv
import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TextIO

import cv2

from fovea.archive.metadata import NOTHING_KNOWN, Metadata, read_metadata
from fovea.archive.opening import AnyArchive
from fovea.archive.records import NewCase, thumbnail_of
from fovea.archive.writing import Added, Outcome
from fovea.contract import EncoderPlugin
from fovea.errors import Cancelled, ConfigError, FoveaError
from fovea.image import Photograph, open_photograph
from fovea.services import Measured
from fovea.settings import Settings
from fovea.workers import Runner, work_through

log = logging.getLogger(__name__)

# What numerical code of an encoder may raise on one odd photograph; the next one may be fine.
ENCODER_FAULTS = (
    ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError,
    cv2.error,
)  # fmt: skip

Encoder = EncoderPlugin[Any]
Gate = Callable[[Photograph], None]


@dataclass(frozen=True)
class Photo:
    """A photograph that is left to embed; `file` is its path inside the folder."""

    file: str
    path: Path
    sha256: str
    known: Metadata


@dataclass(frozen=True)
class Failed:
    """Class of an error and the whole message."""

    error: str
    reason: str


@dataclass(frozen=True)
class Embedding:
    """The recipe of a worker that opens photographs and embeds them.

    Attributes:
        encoder_id: Of the encoder that `load` gives.
        load: Gives a loaded encoder, and what raises an `ImageError` for a photograph that
            must not be archived. For `ray` it must be a function that can travel.
        settings: Limits for opening.
    """

    encoder_id: str
    load: Callable[[], tuple[Encoder, Gate]]
    settings: Settings

    def __call__(self) -> Callable[[Photo], NewCase | Failed]:
        """A worker with an encoder of its own."""
        encoder, accept = self.load()
        return partial(embedded, encoder, accept, self.settings)

    def lost(self, item: Photo) -> Failed:
        """What is said of a photograph on which every worker died."""
        return Failed("WorkerLost", "Each process that worked on it died: run it again.")


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
    archive: AnyArchive,
    recipe: Embedding,
    *,
    folder: Path,
    metadata_csv: Path | None = None,
    errors_csv: Path | None = None,
    measured: Mapping[str, Sequence[Measured]] | None = None,
    runner: Runner = "local",
    workers: int | None = None,
) -> Iterator[IngestEvent]:
    """Archive every photograph in a folder and its subfolders; one event per file.

    Each photograph is on disk when its event arrives, so a stopped run is
    continued by starting it again: what is there is neither decoded nor
    embedded a second time. Hidden files and the metadata file are passed over.
    Only this process writes to the archive, whoever makes the vectors.

    Args:
        archive: Where to.
        recipe: Makes the workers.
        folder: Folder of photographs, the same on every machine.
        metadata_csv: See `read_metadata`. It is read whole before the first file.
        errors_csv: Write `file, error, reason` of each failure here.
        measured: Values to keep with the photographs, by SHA-256 of their files.
        runner: `local` or `ray`, see `fovea.workers.work_through`.
        workers: Processes of `ray`.

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
    skipped = {path.resolve() for path in (metadata_csv, errors_csv) if path}
    files = sorted({*files_in(folder, skipped), *metadata})
    run = _Run(archive, recipe, folder.resolve(), files, metadata, measured or {})
    return run.events(errors_csv, runner, workers)


def files_in(folder: Path, skipped: set[Path]) -> list[str]:
    """Paths inside the folder of the files in it and its subfolders, but the hidden ones."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(parent, name) for name in names if not name.startswith(".")]
        found += [
            path.relative_to(folder).as_posix() for path in paths if path.resolve() not in skipped
        ]
    return found


def embedded(encoder: Encoder, accept: Gate, settings: Settings, photo: Photo) -> NewCase | Failed:
    """The case of a photograph, ready to archive, or why there is none."""
    known = photo.known
    try:
        image = open_photograph(photo.path, "photograph", eye=known.eye, settings=settings)
        if image.sha256 != photo.sha256:
            return Failed("UnreadableImage", "The file was changed while it was read.")
        accept(image)
        return NewCase(
            sha256=image.sha256,
            encoder_id=encoder.encoder_id,
            vector=encoder.embed(image),
            thumbnail=thumbnail_of(image),
            patient_id=known.patient_id,
            eye=image.eye,
            device=known.device,
            labels=known.labels,
            date=known.taken,
        )
    except Cancelled:
        raise
    except FoveaError as error:
        return Failed(error.code, str(error))
    except OSError as error:
        return _unreadable(error)
    except ENCODER_FAULTS as error:
        log.exception("encoder %s failed on one photograph", encoder.encoder_id)
        reason = f"`{encoder.encoder_id}` failed on it ({type(error).__name__})."
        return Failed("PluginFailed", reason)


def _unreadable(error: OSError) -> Failed:
    return Failed("UnreadableImage", f"The file cannot be read: {error.strerror}.")


class _Run:
    """Says which photographs are left to embed, and archives what comes back."""

    def __init__(
        self,
        archive: AnyArchive,
        recipe: Embedding,
        folder: Path,
        files: list[str],
        metadata: Mapping[str, Metadata],
        measured: Mapping[str, Sequence[Measured]],
    ) -> None:
        self.archive, self.recipe, self.folder, self.files = archive, recipe, folder, files
        self.metadata, self.measured = metadata, measured
        self.number = 0

    def events(
        self, errors_csv: Path | None, runner: Runner, workers: int | None
    ) -> Iterator[IngestEvent]:
        with ExitStack() as stack:
            failures = _Failures(stack.enter_context(_open(errors_csv))) if errors_csv else None
            for event in self._all(runner, workers):
                if failures and event.outcome == "failed":
                    failures.write(event)
                yield event

    def _all(self, runner: Runner, workers: int | None) -> Iterator[IngestEvent]:
        first: dict[str, tuple[str, Metadata]] = {}
        left: dict[str, Photo] = {}
        copies: list[Photo] = []
        for file in self.files:
            photo = self._photo(file)
            if isinstance(photo, Failed):
                yield self._event(file, photo)
                continue
            same = first.setdefault(photo.sha256, (file, photo.known))
            if not same[1].same_as(photo.known):
                yield self._event(file, _contradiction(*same, photo.known))
            elif self.archive.has(photo.sha256, self.recipe.encoder_id):
                yield self._event(file, self._annotated(photo))
            elif photo.sha256 in left:
                copies.append(photo)
            else:
                left[photo.sha256] = photo
        failed: dict[str, Failed] = {}
        made = work_through(left.values(), self.recipe, runner=runner, workers=workers)
        for photo, case in made:
            if isinstance(case, Failed):
                failed[photo.sha256] = case
                yield self._event(photo.file, case)
            else:
                case = replace(case, evidence=self._evidence(photo.sha256))
                yield self._event(photo.file, self.archive.add(case))
        for photo in copies:
            yield self._event(photo.file, failed.get(photo.sha256) or self._annotated(photo))

    def _event(self, file: str, done: Added | Failed) -> IngestEvent:
        self.number += 1
        place = (self.number, len(self.files), file)
        if isinstance(done, Failed):
            return IngestEvent(*place, "failed", None, done.error, done.reason)
        return IngestEvent(*place, done.outcome, done.case_id)

    def _photo(self, file: str) -> Photo | Failed:
        known, path = self.metadata.get(file, NOTHING_KNOWN), self.folder / file
        if not path.is_file():
            missing = FoveaError(
                "The metadata names a file that is not there", where=f"line {known.line}"
            )
            return Failed(missing.code, str(missing))
        try:
            with path.open("rb") as opened:
                sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            return _unreadable(error)
        return Photo(file, path, sha256, known)

    def _annotated(self, photo: Photo) -> Added:
        return self.archive.annotate(
            photo.sha256,
            patient_id=photo.known.patient_id,
            eye=photo.known.eye,
            labels=photo.known.labels,
            taken=photo.known.taken,
            device=photo.known.device,
            evidence=self._evidence(photo.sha256),
        )

    def _evidence(self, sha256: str) -> dict[str, Any] | None:
        values = self.measured.get(sha256)
        return {"measured": [asdict(value) for value in values]} if values else None


def _contradiction(file: str, said: Metadata, known: Metadata) -> Failed:
    error = FoveaError(
        f"The same photograph is also `{file}`, with other metadata",
        why=f"See lines {said.line} and {known.line} (0: no line) of the metadata",
        fix="Remove one of the files, or make the lines agree",
    )
    return Failed(error.code, str(error))


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
