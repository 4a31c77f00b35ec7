"""index add, search, remove, duplicates, verify, rebuild, snapshot, rollback."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fovea.cli.output import (
    EXIT_INTEGRITY,
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

if TYPE_CHECKING:
    from fovea.archive import AnyArchive
    from fovea.settings import Settings

ENCODER = "find_similar_cases"
NEAR_DUPLICATE_BITS = 16
"""See docs/archive.md for what it was measured on."""

app = typer.Typer(no_args_is_help=True, help="The archive of similar cases.")


@app.command()
def add(
    folder: Annotated[Path, typer.Argument(help="Folder of photographs.")],
    metadata: Annotated[
        Path | None, typer.Option(help="CSV with columns file, patient, eye, labels, date, device.")
    ] = None,
    errors: Annotated[Path | None, typer.Option(help="Write failures to this CSV.")] = None,
    measured: Annotated[
        Path | None,
        typer.Option(help="Folder of `fovea batch`: its values are kept, to compare eyes by."),
    ] = None,
    runner: RunnerName = "local",
    workers: Workers = None,
    plugins_dir: PluginsDir = None,
    as_json: Json = False,
) -> None:
    """Add photographs; run again to go on. Example: fovea index add cases --metadata cases.csv."""
    from fovea.archive import Embedding, index_folder
    from fovea.batch_rows import measured_in_batch
    from fovea.workbench import load_encoder

    settings = settings_from(plugins_dir=plugins_dir)
    load = partial(load_encoder, settings, ENCODER)
    recipe = Embedding(load()[0].encoder_id, load, settings)
    counts: dict[str, int] = {}
    with closing(_archive(settings)) as archive:
        for event in index_folder(
            archive,
            recipe,
            folder=folder,
            metadata_csv=metadata,
            errors_csv=errors,
            measured=measured_in_batch(measured) if measured else None,
            runner=runner_from(runner),
            workers=workers,
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
    eye: Annotated[str | None, typer.Option(help="OD or OS: compare with these only.")] = None,
    label: Annotated[
        str | None, typer.Option(help="Compare with cases of this label only.")
    ] = None,
    fellow_eye: Annotated[
        bool, typer.Option("--fellow-eye", help="Let the patient's other eye be among them.")
    ] = False,
    plugins_dir: PluginsDir = None,
    as_json: Json = False,
) -> None:
    """Find similar cases. Example: fovea index search retina.jpg -k 5 --eye OD."""
    from fovea.assistant import Assistant

    assistant = Assistant(settings_from(plugins_dir=plugins_dir))
    asked = {"k": k, "eye": eye, "label": label, "fellow_eye": fellow_eye}
    result = assistant.call(ENCODER, image, asked)
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
    with closing(_archive(settings_from())) as archive:
        archive.remove(case_id)
    note(f"Removed {case_id}")


@app.command()
def verify(as_json: Json = False) -> None:
    """Check every row and vector against its digest. Example: fovea index verify."""
    with closing(_archive(settings_from())) as archive:
        problems = archive.verify()
    if as_json:
        show_json({"problems": problems})
    else:
        typer.echo("\n".join(problems) or "The archive is whole")
    if problems:
        raise typer.Exit(EXIT_INTEGRITY)


@app.command()
def duplicates(
    most_bits: Annotated[
        int, typer.Option("--bits", help="Most bits of 255 in which the two pictures differ.")
    ] = NEAR_DUPLICATE_BITS,
    as_json: Json = False,
) -> None:
    """List photographs that look like copies. Example: fovea index duplicates."""
    with closing(_archive(settings_from())) as archive:
        pairs = archive.near_duplicates(most_bits)
    if as_json:
        show_json([asdict(pair) for pair in pairs])
        return
    for pair in pairs:
        typer.echo(f"{pair.first}\t{pair.second}\t{pair.bits_apart}")
    note(f"{len(pairs)} pair(s) that differ in at most {most_bits} of 255 bits")


@app.command()
def rebuild(
    kind: Annotated[
        str | None,
        typer.Option(help="Index from now on: auto, flat, ivf, hnsw or ivf_sq8."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Repair the database, build the indexes anew. Example: fovea index rebuild --kind auto."""
    from fovea.archive.index import WANTED_KINDS

    if kind not in (None, *WANTED_KINDS):
        raise typer.BadParameter(f"{kind!r} is not one of {', '.join(WANTED_KINDS)}")
    with closing(_archive(settings_from())) as archive:
        built = archive.rebuild(kind)
    rows = {
        name: {"kind": index.kind, "cases": index.count, "recall_at_10": index.recall_at_10}
        for name, index in built.items()
    }
    if as_json:
        show_json(rows)
        return
    for name, row in rows.items():
        recall = row["recall_at_10"]
        told = "exact" if recall is None else f"recall@10 {recall:.3f} (measured)"
        typer.echo(f"{name}\t{row['kind']}\t{row['cases']} cases\t{told}")
    if not rows:
        typer.echo("The archive is empty")


@app.command()
def snapshot(
    name: Annotated[str, typer.Argument(help="Small letters, digits, - and _.")] = "by-hand",
) -> None:
    """Keep a copy of the archive to go back to. Example: fovea index snapshot before-cleaning."""
    with closing(_archive(settings_from())) as archive:
        typer.echo(archive.snapshot(name))


@app.command()
def rollback(
    name: Annotated[str | None, typer.Argument(help="Snapshot; all are listed if omitted.")] = None,
) -> None:
    """Go back to a snapshot. Example: fovea index rollback 20250101T120000000000Z-by-hand."""
    from fovea.archive import CaseArchive
    from fovea.archive.opening import archive_folder

    folder = archive_folder(settings_from())
    if name is None:
        typer.echo("\n".join(CaseArchive.snapshots_in(folder)) or "No snapshot was taken so far")
        return
    CaseArchive.roll_back(folder, name)
    note(f"The archive is that of {name}; what was there before is in `quarantine`")


def _archive(settings: Settings) -> AnyArchive:
    from fovea.archive import open_archive  # langchain and faiss are slow to import

    return open_archive(settings)
