"""serve, ask, plan, analyse, report, demo."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from fovea.cli.output import (
    EXIT_SOME_FAILED,
    Eyes,
    Images,
    Json,
    PluginsDir,
    eyes_from,
    note,
    settings_from,
    show_json,
    show_line,
)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (serve, ask, plan, analyse, report, demo):
        app.command()(command)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 picks a free one.")] = None,
    plugins_dir: PluginsDir = None,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open a browser.")] = False,
) -> None:
    """Open the chat in a browser. Example: fovea serve --open."""
    from fovea.assistant import Assistant
    from fovea.ui.serve import serve as serve_page

    settings = settings_from(host=host, port=port, plugins_dir=plugins_dir)
    serve_page(Assistant(settings), open_browser=open_browser)


def ask(
    question: Annotated[str, typer.Option("-q", "--question", help="The question.")],
    images: Annotated[list[Path] | None, typer.Argument(help="Photographs, none or more.")] = None,
    eye: Eyes = None,
    plugins_dir: PluginsDir = None,
    as_json: Json = False,
) -> None:
    """Answer a question. Example: fovea ask retina.jpg -q "What is the cup-to-disc ratio?"."""
    from fovea.assistant import Assistant

    assistant = Assistant(settings_from(plugins_dir=plugins_dir))
    answer = assistant.ask(images or [], question, eyes=eyes_from(eye))
    if as_json:
        show_json(answer.as_json())
    else:
        for told in answer.notices:
            note(told)
        for call in answer.calls:
            note(f"{call.tool}: {call.status} ({call.seconds:.2f} s) {call.evidence or ''}")
        typer.echo(answer.text)
    if not answer.complete:
        raise typer.Exit(1)


def plan(
    question: Annotated[str | None, typer.Option("-q", "--question", help="The question.")] = None,
    images: Annotated[int, typer.Option(help="Number of photographs in the session.")] = 0,
    file: Annotated[
        Path | None, typer.Option(help="JSON lines of id, question, images, history.")
    ] = None,
    plugins_dir: PluginsDir = None,
    as_json: Json = False,
) -> None:
    """Show which tools a question would call. Example: fovea plan -q "Any glaucoma?" --images 1."""
    from fovea.llm.base import load_model
    from fovea.planning import Question, read_question
    from fovea.planning import plan as plan_question
    from fovea.registry import Registry

    if (question is None) == (file is None):
        raise typer.BadParameter("Give either --question or --file", param_hint="--question")
    settings = settings_from(plugins_dir=plugins_dir)
    registry, model = Registry.discover(settings), load_model(settings)
    if question is not None:
        questions = [Question(question=question, images=images)]
    elif file is not None and file.is_file():
        lines = file.read_text(encoding="utf-8").splitlines()
        questions = [read_question(s, n) for n, s in enumerate(lines, 1) if s.strip()]
    else:
        raise typer.BadParameter(f"There is no file {file}", param_hint="--file")
    for item in questions:
        planned = plan_question(item, registry, model)
        if as_json or file is not None:
            show_line(planned)
        else:
            for call in planned["calls"]:
                typer.echo(f"{call['tool']} {call['arguments'] or ''}".rstrip())
            if planned["reply"]:
                typer.echo(planned["reply"])


def analyse(
    images: Images,
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    only: Annotated[
        str | None, typer.Option(help="Comma-separated tools; what they need runs too.")
    ] = None,
    eye: Eyes = None,
    plugins_dir: PluginsDir = None,
    as_json: Json = False,
) -> None:
    """Measure everything and write masks. Example: fovea analyse a.jpg b.jpg --out results."""
    from fovea.assistant import Assistant
    from fovea.errors import ImageError
    from fovea.export import write_analysis

    assistant = Assistant(settings_from(plugins_dir=plugins_dir))
    eyes = eyes_from(eye)
    tools = [name.strip() for name in only.split(",") if name.strip()] if only else []
    rows: list[dict[str, Any]] = []
    taken: set[str] = set()
    for number, image in enumerate(images):
        folder = out / _free_name(image.stem, taken)
        note(f"{image.name} ({number + 1} of {len(images)})")
        try:
            analysis = assistant.analyse(
                image, only=tools, eye=eyes[number] if number < len(eyes) else None
            )
        except ImageError as error:
            rows.append({"image": image.name, "status": error.code, "reason": str(error)})
            note(f"  {error}")
            continue
        try:
            path = write_analysis(analysis, folder)
        finally:
            assistant.store.delete(analysis.session.id)
        rows.append({"image": image.name, "status": "ok", "result": str(path)})
    if as_json:
        show_json(rows)
    else:
        for row in rows:
            typer.echo(f"{row['image']}\t{row['status']}\t{row.get('result') or row['reason']}")
    failed = sum(row["status"] != "ok" for row in rows)
    if failed:
        raise typer.Exit(1 if failed == len(rows) else EXIT_SOME_FAILED)


def report(
    images: Images,
    out: Annotated[
        Path, typer.Option(help="A .json, .md, .html, .pdf, .docx, .fhir.json or .dcm file.")
    ],
    eye: Eyes = None,
    indication: Annotated[str, typer.Option(help="Indication and history; only quoted.")] = "",
    diabetes: Annotated[
        bool | None, typer.Option("--diabetes/--no-diabetes", help="Whether there is diabetes.")
    ] = None,
    age: Annotated[float | None, typer.Option(min=0, max=130, help="Age in years.")] = None,
    myopia: Annotated[
        bool | None, typer.Option("--myopia/--no-myopia", help="Whether the eye is myopic.")
    ] = None,
    plugins_dir: PluginsDir = None,
    as_json: Json = False,
) -> None:
    """Draft a report. Example: fovea report od.jpg os.jpg --eye OD --eye OS --out report.md."""
    from fovea.assistant import Assistant
    from fovea.report.model import History

    assistant = Assistant(settings_from(plugins_dir=plugins_dir))
    history = History(text=indication[:2000], diabetes=diabetes, age_years=age, myopia=myopia)
    written = assistant.report(images, out, eyes=eyes_from(eye), history=history)
    if as_json:
        show_json({"report": str(written)})
    else:
        note(f"Wrote {written}")


def demo() -> None:
    """Print a draft report on the sample photograph. Example: fovea demo."""
    from fovea.assistant import Assistant
    from fovea.samples import sample_photograph

    with tempfile.TemporaryDirectory(prefix="fovea-demo-") as folder:
        photograph = sample_photograph(Path(folder))
        note("Measuring the sample photograph ...")
        written = Assistant().report([photograph], Path(folder) / "report.md")
        typer.echo(written.read_text(encoding="utf-8"))


def _free_name(stem: str, taken: set[str]) -> str:
    name, number = stem, 2
    while name in taken:
        name, number = f"{stem}_{number}", number + 1
    taken.add(name)
    return name
