"""fovea llm: train, adapt, evaluate the language model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fovea.cli.output import Json, PluginsDir, note, settings_from, show_json

app = typer.Typer(no_args_is_help=True, help="Train, adapt and evaluate the language model.")


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="Folder for checkpoints and the model.")],
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.", min=1)] = None,
    as_json: Json = False,
) -> None:
    """Train a small planner from its grammar, or go on. Example: fovea llm train --out out/llm.

    Running it again on the same folder goes on where it stopped; use the result with
    FOVEA_BACKEND=local and FOVEA_MODEL_DIR. The planner that is shipped was made so.
    """
    from dataclasses import replace

    from tokenizers import Tokenizer

    from fovea.knowledge import load
    from fovea.llm.backends import THRESHOLD, write_profile
    from fovea.llm.training.tokens import learn_tokenizer
    from fovea.llm.training.trainer import Plan
    from fovea.llm.training.trainer import train as train_model

    settings = settings_from()
    plan = replace(Plan(), steps=steps) if steps else Plan()
    topics = load(settings.knowledge_dir).names()
    out.mkdir(parents=True, exist_ok=True)
    learnt = out / "tokenizer.json"
    if learnt.exists():
        tokenizer = Tokenizer.from_file(str(learnt))
    else:
        note("Learning the tokenizer ...")
        tokenizer = learn_tokenizer(plan.seed, topics)
        tokenizer.save(str(learnt))
    figures: dict[str, float] = {}
    for figures in train_model(plan, tokenizer, topics, out):
        note(" ".join(f"{name} {value:g}" for name, value in figures.items()))
    write_profile(out / "model", "small planner", THRESHOLD)
    if as_json:
        show_json({"model": str(out / "model"), **figures})
    else:
        typer.echo(str(out / "model"))


@app.command()
def fit(
    out: Annotated[Path, typer.Option(help="Folder for the word model of the planner.")],
) -> None:
    """Fit the planner's word model on the written questions. Example: fovea llm fit --out out."""
    from fovea.llm.training.fitting import Examples, save
    from fovea.llm.training.fitting import fit as fit_words
    from fovea.llm.training.written import written

    note(f"Fitting on {len(written())} questions ...")
    typer.echo(str(save(fit_words(Examples.of(written())), out)))


@app.command()
def evaluate(
    file: Annotated[
        list[Path] | None,
        typer.Option(help="Questions as of `fovea plan --file`, with `expect`: the tools."),
    ] = None,
    plugins_dir: PluginsDir = None,
    as_json: Json = False,
) -> None:
    """Measure how the backend chooses tools. Example: fovea llm evaluate --file questions.jsonl."""
    from fovea.llm.base import load_model
    from fovea.llm_evaluation import evaluate as measure
    from fovea.llm_evaluation import read_cases
    from fovea.registry import Registry

    settings = settings_from(plugins_dir=plugins_dir)
    if not file:
        raise typer.BadParameter("Name a file of questions", param_hint="--file")
    cases = [case for path in file for case in read_cases(path)]
    figures = measure(load_model(settings), cases, Registry.discover(settings))
    content = figures.as_json()
    if as_json:
        show_json(content)
        return
    for name, value in content.items():
        if name != "wrong":
            typer.echo(f"{name}\t{value}")


@app.command()
def adapt(
    out: Annotated[Path, typer.Option(help="Folder for the adapter.")],
    model: Annotated[
        Path | None, typer.Option(help="Model folder that is adapted; the embedded planner's.")
    ] = None,
    plugin: Annotated[str | None, typer.Option(help="Plugin whose examples are learnt.")] = None,
    dialogues: Annotated[
        Path | None, typer.Option(help="JSON lines of question, images, history and expect.")
    ] = None,
    plugins_dir: PluginsDir = None,
    steps: Annotated[int, typer.Option(help="Optimiser steps.", min=1)] = 120,
    as_json: Json = False,
) -> None:
    """Teach a plugin or logged turns by a LoRA adapter; kept only if nothing else gets worse.

    Example: fovea llm adapt --plugin measure_pallor --out out/pallor.
    """
    from fovea.llm.backends import EMBEDDED
    from fovea.llm_adaptation import adapt as adapt_model
    from fovea.registry import Registry

    if (plugin is None) == (dialogues is None):
        raise typer.BadParameter("Give either --plugin or --dialogues", param_hint="--plugin")
    settings = settings_from(plugins_dir=plugins_dir)
    outcome: Any = adapt_model(
        Registry.discover(settings), model or EMBEDDED, out, plugin=plugin, dialogues=dialogues,
        steps=steps, progress=note,
    )  # fmt: skip
    if as_json:
        show_json(outcome.as_json())
    else:
        for name, value in outcome.as_json().items():
            typer.echo(f"{name}\t{value}")
    if not outcome.kept:
        raise typer.Exit(1)
