"""knowledge check, show, search."""

from __future__ import annotations

from typing import Annotated

import typer

from fovea.cli.output import EXIT_INTEGRITY, Json, note, settings_from, show_json

app = typer.Typer(no_args_is_help=True, help="The knowledge base that reports are grounded in.")


@app.command()
def check(as_json: Json = False) -> None:
    """Validate entries, citations and references. Example: fovea knowledge check."""
    from fovea.knowledge import load
    from fovea.registry import Registry

    settings = settings_from()
    knowledge, registry = load(settings.knowledge_dir), Registry.discover(settings)
    declared = [o for name in registry.names() for o in registry.manifest(name).outputs]
    said = {output.name for output in declared if output.kind in {"measurement", "finding"}}
    problems = knowledge.check(said)
    waiting = knowledge.without_plugin({output.name for output in declared})
    if as_json:
        show_json(
            {"entries": len(knowledge.entries), "problems": problems, "no_plugin_for": waiting}
        )
    else:
        typer.echo(f"{len(knowledge.entries)} entries, {len(problems)} problems")
        for problem in problems:
            typer.echo(f"- {problem}")
        if waiting:
            note(f"Explained, but no installed plugin gives it: {', '.join(waiting)}")
    if problems:
        raise typer.Exit(EXIT_INTEGRITY)


@app.command()
def show(
    entry_id: Annotated[str, typer.Argument(help="Id of the entry, such as b_vcdr.")],
    as_json: Json = False,
) -> None:
    """Print one entry with its sources. Example: fovea knowledge show b_vcdr."""
    from fovea.knowledge import load

    entry = load(settings_from().knowledge_dir).get(entry_id)
    if as_json:
        show_json(entry.model_dump(mode="json"))
    else:
        import yaml

        content = entry.model_dump(mode="json", exclude_none=True)
        typer.echo(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="Words, an id or an abbreviation.")],
    limit: Annotated[int, typer.Option(help="Number of entries.")] = 5,
    as_json: Json = False,
) -> None:
    """Find entries. Example: fovea knowledge search "cup to disc"."""
    from fovea.knowledge import load

    hits = load(settings_from().knowledge_dir).search(query, limit)
    rows = [{"id": h.entry_id, "title": h.title, "why": h.why} for h in hits]
    if as_json:
        show_json(rows)
    elif rows:
        for row in rows:
            typer.echo(f"{row['id']}\t{row['title']}\t({row['why']})")
    else:
        typer.echo("Nothing found")
