"""train, evaluate and zero-shot: the networks of the built-in plugins, and a person's own."""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from fovea.cli.output import Json, note, settings_from, show_json
from fovea.errors import NotAFundusPhotograph

# Core never imports plugins: the trainer is reached by name, as plugins are.
TASKS = "fovea_plugins.training.tasks"
ZERO_SHOT = "fovea_plugins.classifier.zero_shot"

Data = Annotated[Path, typer.Option(help="A data set, or a folder of data sets.")]
Name = Annotated[str, typer.Argument(help="Task, such as vessels or optic_disc.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (train, evaluate):
        app.command()(command)
    app.command("zero-shot")(zero_shot)


def train(
    name: Name,
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for checkpoint and weights.")] = Path("out"),
    minutes: Annotated[float | None, typer.Option(help="Longest training time.")] = None,
    seed: Annotated[int, typer.Option(help="Of weights, batches and augmentation.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint.")] = False,
    as_json: Json = False,
) -> None:
    """Train a network. Example: fovea train vessels --data data --out out/vessels --resume."""
    settings_from()
    logging.getLogger("fovea_plugins").addHandler(_Progress())
    logging.getLogger("fovea_plugins").setLevel(logging.INFO)
    path = _tasks().train(name, data, out=out, minutes=minutes, seed=seed, resume=resume)
    if as_json:
        show_json({"weights": str(path)})
    else:
        typer.echo(str(path))


def evaluate(
    name: Name,
    data: Data,
    weights: Annotated[
        Path | None, typer.Option(help="Weight file; the shipped one when omitted.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure weights on unseen photographs. Example: fovea evaluate vessels --data data --json."""
    settings_from()
    figures = _tasks().evaluate(name, data, weights=weights)
    if as_json:
        show_json(figures)
        return
    for path, value in _flat(figures):
        typer.echo(f"{path}\t{value}")


def zero_shot(
    image: Annotated[Path, typer.Argument(help="A fundus photograph.")],
    model: Annotated[Path, typer.Option(help="Folder of a CLIP-like checkpoint (transformers).")],
    most: Annotated[int, typer.Option(min=1, help="How many conditions to show.")] = 10,
    as_json: Json = False,
) -> None:
    """Score conditions by an image-text model. Example: fovea zero-shot a.jpg --model DIR."""
    from fovea.assistant import Assistant

    judged = Assistant(settings_from()).call("assess_quality", image, {})
    states = {found["concept"]: found for found in judged["findings"]}
    if states["fundus_photograph"]["state"] != "present":
        raise NotAFundusPhotograph(
            "Conditions are scored in retinal photographs only", where=image.name,
            why=states["fundus_photograph"]["detail"], fix="Name a colour fundus photograph",
        )  # fmt: skip
    if states["quality"]["value"] == "reject":
        note(f"The quality is too poor to rely on: {states['quality']['detail']}")
    found = import_module(ZERO_SHOT).likeliest(model, image, most=most)
    if as_json:
        show_json(found)
        return
    note("Shares order the conditions; they are not calibrated probabilities")
    for row in found["scores"]:
        typer.echo(f"{row['share']:.3f}\t{row['condition']}")


class _Progress(logging.Handler):
    """Shows the trainer's progress on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        note(record.getMessage())


def _tasks() -> Any:
    return import_module(TASKS)


def _flat(figures: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(figures, dict):
        return [row for key, value in figures.items() for row in _flat(value, f"{path}/{key}")]
    if isinstance(figures, list):  # an interval; longer lists are for `--json`
        ends = [x for x in figures if isinstance(x, float)]
        return [(path, f"{ends[0]} to {ends[1]}")] if len(ends) == len(figures) == 2 else []
    return [(path, figures)]
