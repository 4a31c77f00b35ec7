"""batch: a folder of photographs as one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fovea.cli.output import (
    EXIT_SOME_FAILED,
    Json,
    PluginsDir,
    RunnerName,
    Workers,
    note,
    runner_from,
    settings_from,
    show_json,
)


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(batch)


def batch(
    folder: Annotated[Path, typer.Argument(help="Folder of photographs.")],
    out: Annotated[Path, typer.Option(help="Folder for results.csv, errors.csv and the rest.")],
    only: Annotated[
        str | None, typer.Option(help="Comma-separated tools; what they need runs too.")
    ] = None,
    runner: RunnerName = "local",
    workers: Workers = None,
    plugins_dir: PluginsDir = None,
    as_json: Json = False,
) -> None:
    """Measure a folder; run again to go on. Example: fovea batch photographs --out results."""
    from fovea.batch import run_batch

    counts = {"ok": 0, "partial": 0, "failed": 0, "from_earlier_runs": 0}
    for event in run_batch(
        folder,
        out,
        settings=settings_from(plugins_dir=plugins_dir),
        only=[name.strip() for name in only.split(",") if name.strip()] if only else [],
        runner=runner_from(runner),
        workers=workers,
    ):
        counts[event.status] += 1
        counts["from_earlier_runs"] += event.kept
        if not event.kept:
            said = event.reason or event.status
            note(f"{event.number}/{event.total} {event.file}: {said}")
    if as_json:
        show_json(counts)
    else:
        told = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in counts.items() if n)
        typer.echo(told or "No files")
    if counts["failed"]:
        raise typer.Exit(EXIT_SOME_FAILED)
