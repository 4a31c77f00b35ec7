"""index add, search, remove, verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fovea.cli.output import (
    EXIT_INTEGRITY,
    EXIT_SOME_FAILED,
    Json,
    PluginsDir,
    note,
    settings_from,
    show_json,
)

if TYPE_CHECKING:
    from fovea.archive import CaseArchive
    from fovea.settings import Settings

ENCODER = "find_similar_cases"

app = typer.Typer(no_args_is_help=True, help="The archive of similar cases.")


@app.command()
def add(
    folder: Annotated[Path, typer.Argument(help="Folder of photographs.")],
    metadata: Annotated[
        Path | None, typer.Option(help="CSV with columns file, patient, eye, labels, date.")
    ] = None,
    errors: Annotated[Path | None, typer.Option(help="Write failures to this CSV.")] = None,
    plugins_dir: PluginsDir = None,
    as_json: Json = False,
) -> None:
    """Add photographs; run again to go on. Example: fovea index add cases --metadata cases.csv."""
    from fovea.archive import index_folder
    from fovea.contract import EncoderPlugin
    from fovea.errors import PluginUnavailable
    from fovea.registry import Registry
    from fovea.workbench import require_fundus

    settings = settings_from(plugins_dir=plugins_dir)
    registry = Registry.discover(settings)
    encoder = registry.load(ENCODER)
    if not isinstance(encoder, EncoderPlugin):
        raise PluginUnavailable(ENCODER, "It cannot embed photographs", fix="Derive EncoderPlugin")
    counts: dict[str, int] = {}
    for event in index_folder(
        _archive(settings),
        encoder,
        folder=folder,
        accept=lambda photograph: require_fundus(photograph, registry),
        metadata_csv=metadata,
        errors_csv=errors,
        settings=settings,
    ):
        counts[event.outcome] = counts.get(event.outcome, 0) + 1
        note(f"{event.number}/{event.total} {event.file}: {event.reason or event.outcome}")
    if as_json:
        show_json(counts)
    else:
        typer.echo(", ".join(f"{count} {name}" for name, count in counts.items()) or "No files")
    if counts.get("failed"):
        raise typer.Exit(EXIT_SOME_FAILED)


@app.command()
def search(
    image: Annotated[Path, typer.Argument(help="The photograph to compare with the archive.")],
    k: Annotated[int, typer.Option("-k", help="Number of neighbours.")] = 5,
    plugins_dir: PluginsDir = None,
    as_json: Json = False,
) -> None:
    """Find similar cases. Example: fovea index search retina.jpg -k 5."""
    from fovea.assistant import Assistant

    assistant = Assistant(settings_from(plugins_dir=plugins_dir))
    result = assistant.call(ENCODER, image, {"k": k})
    if as_json:
        show_json(result)
        return
    typer.echo(result["summary"])
    for neighbour in result["similar"]:
        labels = ", ".join(neighbour["labels"]) or "no label"
        typer.echo(f"{neighbour['rank']}\t{neighbour['case_id']}\t{labels}\t{neighbour['why']}")


@app.command()
def remove(case_id: Annotated[str, typer.Argument(help="Case, such as C000012.")]) -> None:
    """Remove a case. Example: fovea index remove C000012."""
    _archive(settings_from()).remove(case_id)
    note(f"Removed {case_id}")


@app.command()
def verify(as_json: Json = False) -> None:
    """Check every row and vector against its digest. Example: fovea index verify."""
    problems = _archive(settings_from()).verify()
    if as_json:
        show_json({"problems": problems})
    else:
        typer.echo("\n".join(problems) or "The archive is whole")
    if problems:
        raise typer.Exit(EXIT_INTEGRITY)


def _archive(settings: Settings) -> CaseArchive:
    from fovea.archive import CaseArchive

    return CaseArchive.open(settings.data_dir / "archive")
