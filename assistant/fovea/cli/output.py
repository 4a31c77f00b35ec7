"""Shared pieces of the commands: options, JSON, progress."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from fovea.settings import Settings
from fovea.workers import RUNNERS, Runner

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Images = Annotated[
    list[Path], typer.Argument(help="Photographs (JPEG, PNG, TIFF, BMP, WebP, DICOM).")
]
Eyes = Annotated[
    list[str] | None,
    typer.Option("--eye", help="OD or OS, once per photograph, in their order."),
]
PluginsDir = Annotated[
    Path | None,
    typer.Option("--plugins-dir", help="Folder of further plugins. Their code runs: trust it."),
]
RunnerName = Annotated[
    str,
    typer.Option(
        "--runner",
        help="local: in this process. ray: on the cluster that RAY_ADDRESS names, else on this "
        "machine.",
    ),
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes of ray. Default: one for each processor.")
]

EXIT_SOME_FAILED = 3
EXIT_INTEGRITY = 4


def settings_from(**flags: Any) -> Settings:
    """Settings with command-line flags on top; from here on, the log goes to a file."""
    from fovea.logs import log_to_file

    settings = Settings.from_environment(**flags)
    log_to_file(settings)
    return settings


def eyes_from(given: Sequence[str] | None) -> list[Any]:
    """Checked `--eye` values.

    Raises:
        typer.BadParameter: something other than OD, OS or `-` (unknown).
    """
    eyes = []
    for value in given or ():
        if value.upper() not in {"OD", "OS", "-"}:
            raise typer.BadParameter(f"{value!r} is not OD, OS or -", param_hint="--eye")
        eyes.append(None if value == "-" else value.upper())
    return eyes


def runner_from(name: str) -> Runner:
    """The checked value of `--runner`.

    Raises:
        typer.BadParameter: there is no such runner.
    """
    if name not in RUNNERS:
        raise typer.BadParameter(
            f"{name!r} is not one of {', '.join(RUNNERS)}", param_hint="--runner"
        )
    return name


def show_json(content: Any) -> None:
    """Print one JSON document."""
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False))


def show_line(content: Any) -> None:
    """Print one JSON document on one line, at once."""
    typer.echo(json.dumps(content, ensure_ascii=False))
    sys.stdout.flush()


def note(text: str) -> None:
    """Progress or a remark, on standard error."""
    typer.secho(text, err=True, dim=True)
