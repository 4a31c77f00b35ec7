"""A folder of photographs as one table: a row for each, resumable, never given up.

What was found in a photograph is appended to `rows.jsonl` and is on disk before the next
row is taken. The tables are written from it when a run ends or is interrupted, sorted by
file, so that they do not depend on who computed a row, when, and in how many runs.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from fovea.archive.ingest import files_in
from fovea.assistant import Analysis, Assistant
from fovea.batch_rows import Gap, Journal, Number, Row, Said, write_tables
from fovea.differences import measured_in
from fovea.errors import Cancelled, ConfigError, FoveaError, NotApplicable
from fovea.logs import log_to_file
from fovea.registry import Registry
from fovea.settings import Settings
from fovea.workers import Runner, work_through

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchEvent:
    """What became of one photograph.

    Attributes:
        number, total: Position in the run, from 1.
        file: Path inside the folder.
        status: Of its row.
        kept: An earlier run made the row; nothing was computed.
        reason: Why it could not be used.
    """

    number: int
    total: int
    file: str
    status: Literal["ok", "partial", "failed"]
    kept: bool
    reason: str = ""


@dataclass(frozen=True)
class Measuring:
    """The recipe of a worker that makes a row of a photograph.

    Attributes:
        settings: Of the assistant in the worker.
        folder: Folder of the photographs, the same on every machine.
        tools: What is run, with what it needs.
    """

    settings: Settings
    folder: Path
    tools: tuple[str, ...]

    def __call__(self) -> Callable[[str], Row]:
        """A worker with an assistant of its own."""
        log_to_file(self.settings)
        return partial(measure, Assistant(self.settings), self.folder, self.tools)

    def lost(self, item: str) -> Row:
        """The row of a photograph on which every worker died."""
        gap = Gap(
            error="WorkerLost",
            reason="Each process that worked on it died; it may need more memory than there is.",
        )
        return Row(file=told(item), sha256=None, status="failed", again=True, gaps=(gap,))


def run_batch(
    folder: Path,
    out: Path,
    *,
    settings: Settings,
    only: Sequence[str] = (),
    runner: Runner = "local",
    workers: int | None = None,
) -> Iterator[BatchEvent]:
    """Measure every photograph in a folder and its subfolders; one event per file.

    A photograph is on disk as a row when its event arrives. A run that was stopped is
    continued by starting it again: photographs that have a row, and whose file is the
    same, are not opened by any tool again.

    Args:
        folder: Folder of photographs. Hidden files are passed over.
        out: Folder for `rows.jsonl`, `results.csv`, `errors.csv` and `not_measured.csv`.
        settings: Of the assistants.
        only: Tools to run with what they need; all that give values or findings by default.
        runner: `local` or `ray`, see `fovea.workers.work_through`.
        workers: Processes of `ray`.

    Raises:
        ConfigError: the folder cannot be used, or `out` holds rows of other tools.
        PluginUnavailable: a tool in `only` does not exist.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"There is no folder `{folder.name}`",
            where="batch",
            why="The path does not exist or is a file",
            fix="Check the spelling",
        )
    if folder.resolve().is_relative_to(out.resolve()):
        raise ConfigError(
            "The results would lie around the photographs",
            where="--out",
            fix="Choose a folder beside the photographs, or a new one among them",
        )
    registry = Registry.discover(settings)
    registry.check_options()
    tools = tuple(only) or tuple(n for n in registry.unasked_names() if _gives_cells(registry, n))
    if not tools:
        raise ConfigError("No tool gives a value or a finding", where="batch")
    order = _columns(registry, tools)
    recipe = Measuring(settings, folder.resolve(), tools)
    return _events(recipe, out.resolve(), made_by(registry, tools), order, runner, workers)


def _events(
    recipe: Measuring,
    out: Path,
    made: dict[str, str],
    order: list[tuple[str, str]],
    runner: Runner,
    workers: int | None,
) -> Iterator[BatchEvent]:
    with Journal(out, made) as journal:
        files = [
            file
            for file in sorted(files_in(recipe.folder, set()))
            if not (recipe.folder / file).is_relative_to(out)
        ]
        rows = journal.rows
        kept = {file for file in files if _is_done(rows.get(told(file)), recipe.folder / file)}
        left = [file for file in files if file not in kept]
        try:
            for number, file in enumerate(sorted(kept), start=1):
                yield _event(number, len(files), rows[told(file)], kept=True)
            made_rows = work_through(left, recipe, runner=runner, workers=workers)
            for number, (_, row) in enumerate(made_rows, start=len(kept) + 1):
                journal.add(row)
                yield _event(number, len(files), row, kept=False)
        finally:
            here = set(map(told, files))
            write_tables(out, [row for row in rows.values() if row.file in here], order)


def told(file: str) -> str:
    r"""The name of a file as tables can hold it: a byte that is no text is written `\xe9`."""
    return os.fsencode(file).decode("utf-8", "backslashreplace")


def _is_done(row: Row | None, path: Path) -> bool:
    return row is not None and not row.again and row.sha256 == _sha256(path)


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return None


def _event(number: int, total: int, row: Row, *, kept: bool) -> BatchEvent:
    reason = row.gaps[0].reason if row.status == "failed" else ""
    return BatchEvent(number, total, row.file, row.status, kept, reason)


def _gives_cells(registry: Registry, tool: str) -> bool:
    manifest = registry.manifest(tool)
    kinds = {output.kind for output in manifest.outputs}
    # What the archive holds today is no property of the photograph.
    own = "archive" not in manifest.inputs.services
    return own and manifest.inputs.images == 1 and bool(kinds & {"measurement", "finding"})


def _columns(registry: Registry, tools: Sequence[str]) -> list[tuple[str, str]]:
    """Name and unit of what the tools declare: the columns that are always there."""
    outputs = [output for tool in tools for output in registry.manifest(tool).outputs]
    numbers = {o.name: o.unit for o in outputs if o.kind == "measurement"}
    findings = {o.name: "" for o in outputs if o.kind == "finding"}
    return [*numbers.items(), *findings.items()]


def made_by(registry: Registry, tools: Sequence[str]) -> dict[str, str]:
    """What rows depend on: the tools asked for, and every tool with version and options."""
    versions = {"tools": ", ".join(tools)}
    for name in registry.healthy_names():
        manifest, options = registry.manifest(name), registry.options(name)
        weights = "".join(f" {weights.sha256[:12]}" for weights in manifest.weights)
        told = f" {json.dumps(options, sort_keys=True)}" if options else ""
        versions[name] = f"{manifest.version}{weights}{told}"
    return versions


def measure(assistant: Assistant, folder: Path, tools: Sequence[str], file: str) -> Row:
    """The row of one photograph; whatever goes wrong with it is in the row."""
    path = folder / file
    sha256 = _sha256(path)
    try:
        analysis = assistant.analyse(path, only=tools)
    except Cancelled:
        raise
    except FoveaError as error:
        gap = Gap(error=error.code, reason=str(error))
        return Row(file=told(file), sha256=sha256, status="failed", gaps=(gap,))
    except OSError as error:
        gap = Gap(error="UnreadableFile", reason=f"It cannot be read: {error.strerror}.")
        return Row(file=told(file), sha256=sha256, status="failed", again=True, gaps=(gap,))
    except Exception as error:  # one odd file must not end a night's work
        log.exception("a photograph of a batch failed")
        gap = Gap(error="Failed", reason=f"Internal error ({type(error).__name__}), see the log.")
        return Row(file=told(file), sha256=sha256, status="failed", again=True, gaps=(gap,))
    try:
        return _row(analysis, assistant.registry, file)
    finally:
        assistant.store.delete(analysis.session.id)


def _row(analysis: Analysis, registry: Registry, file: str) -> Row:
    numbers: dict[tuple[str, str | None], Number] = {}
    findings: dict[str, Said] = {}
    gaps = [
        Gap(tool=tool, error=error.code, reason=str(error))
        for tool, error in analysis.refused.items()
    ]
    for evidence in analysis.evidence.values():
        tool, result = evidence.tool, evidence.result
        for m in result.measurements:  # the tool that the others take it from goes first
            if registry.provider(m.name) == tool or (m.name, m.zone) not in numbers:
                numbers[m.name, m.zone] = Number(
                    name=m.name, zone=m.zone, unit=m.unit, value=m.value
                )
        for f in result.findings:
            if registry.provider(f.concept) == tool or f.concept not in findings:
                findings[f.concept] = Said(
                    concept=f.concept, value=f.value or f.state, probability=f.probability
                )
        gaps += [
            Gap(tool=tool, name=missing.name, error="NotMeasured", reason=missing.reason)
            for missing in result.not_measured
        ]
    record = analysis.session.images["img1"]
    return Row(
        file=told(file),
        sha256=record.sha256,
        status="partial" if analysis.refused else "ok",
        again=any(not isinstance(error, NotApplicable) for error in analysis.refused.values()),
        eye_in_file=record.eye,
        numbers=tuple(numbers.values()),
        findings=tuple(findings.values()),
        gaps=tuple(gaps),
        measured=measured_in(analysis.evidence.values(), "img1"),
    )
