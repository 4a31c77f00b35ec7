"""review show, edit, diff, sign, export: what a person makes of a drafted report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fovea.cli.output import Json, note, show_json

if TYPE_CHECKING:
    from fovea.report.model import Report

app = typer.Typer(
    no_args_is_help=True, help="Review a report that `fovea report --out FILE.json` wrote."
)

File = Annotated[Path, typer.Argument(help="A report as JSON; edits and signatures go into it.")]
By = Annotated[str, typer.Option(help="Name of the reviewer.")]


@app.command()
def show(file: File) -> None:
    """Print the sentences with their places. Example: fovea review show report.json."""
    from fovea.report.review import texts

    report = _read(file)
    typer.echo(report.label)
    for section in report.sections:
        typer.echo(f"{section.number}. {section.title}")
        for index, text in enumerate(texts(report, section), start=1):
            typer.echo(f"{section.number}.{index}\t{text or '(taken out)'}")


@app.command()
def edit(
    file: File,
    where: Annotated[str, typer.Argument(help="Section and sentence, such as 4.2.")],
    text: Annotated[str, typer.Argument(help="The new words; empty takes the sentence out.")],
    by: By,
) -> None:
    """Change a sentence. Example: fovea review edit report.json 4.2 "Large cup." --by "Dr Roe"."""
    from fovea.report.review import edit as edited
    from fovea.report.review import place

    section, sentence = place(where)
    _write(file, edited(_read(file), section, sentence, text, by=by))


@app.command()
def diff(file: File, as_json: Json = False) -> None:
    """Print what differs from the draft. Example: fovea review diff report.json."""
    from fovea.report.review import changes, difference

    report = _read(file)
    found = changes(report)
    if as_json:
        show_json({"state": report.label, "changes": [change.__dict__ for change in found]})
        return
    typer.echo(report.label)
    for change in found:
        typer.echo(f"{change.place} {change.title} ({change.by}): {difference(change)}")
    if not found:
        typer.echo("Nothing differs from the draft")


@app.command()
def sign(file: File, by: By) -> None:
    """Sign the report as it stands. Example: fovea review sign report.json --by "Dr Roe"."""
    from fovea.report.review import sign as signed

    _write(file, signed(_read(file), by=by))


@app.command()
def export(
    file: File,
    out: Annotated[Path, typer.Option(help="A .md, .html, .pdf, .docx, .fhir.json or .dcm file.")],
) -> None:
    """Write another format, without pictures. Example: fovea review export r.json --out r.pdf."""
    from fovea.report.views import Material, write_report

    note(f"Wrote {write_report(Material(_read(file), {}, {}), out)}")


def _read(file: Path) -> Report:
    from pydantic import ValidationError

    from fovea.errors import FoveaError
    from fovea.report.model import Report

    try:
        return Report.model_validate_json(file.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        problem = error.errors()[0] if isinstance(error, ValidationError) else None
        why = f"{problem['msg']}" if problem else "it is not text"
        raise FoveaError(
            f"`{file.name}` is not a report that can be reviewed", why=why,
            fix="Give the JSON file of `fovea report --out`, changed by `fovea review` alone",
        ) from error  # fmt: skip


def _write(file: Path, report: Report) -> None:
    """The whole file anew; an interrupted write leaves the previous one whole."""
    from fovea.report.render import render_json

    temporary = file.with_name(file.name + ".new")
    temporary.write_text(render_json(report), encoding="utf-8")
    temporary.replace(file)
    note(report.label)
