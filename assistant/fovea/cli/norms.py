"""norms table, build, show."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated

import typer

from fovea.cli.output import Json, note, settings_from, show_json

app = typer.Typer(
    no_args_is_help=True,
    help="Percentiles of your own cohort, which answers and reports then state.",
)

Csv = Annotated[Path, typer.Argument(help="CSV, as `fovea norms table` writes it.")]


@app.command()
def table(
    results: Annotated[Path, typer.Argument(help="Folder that `fovea analyse --out` wrote.")],
    out: Annotated[Path, typer.Option(help="CSV to write.")],
    people: Annotated[
        Path | None, typer.Option(help="CSV of image, person, age and sex, as far as known.")
    ] = None,
) -> None:
    """Gather measurements into one CSV. Example: fovea norms table results --out cohort.csv."""
    import csv

    from fovea.knowledge.cohort import COLUMNS, table_of

    settings_from()
    rows = list(table_of(results, people))
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    note(f"{len(rows)} values of {len({row['image'] for row in rows})} photographs")


@app.command()
def build(
    cohort: Csv,
    name: Annotated[str, typer.Option(help="Name of the cohort, as reports state it.")],
    least: Annotated[int, typer.Option(help="Fewest values for percentiles; 40 or more.")] = 40,
    out: Annotated[
        Path | None, typer.Option(help="File to write. Default: the one that Fovea then uses.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make percentiles. Example: fovea norms build cohort.csv --name "City clinic 2026"."""
    import re

    import yaml

    from fovea.knowledge.cohort import build as build_norms
    from fovea.knowledge.cohort import read_table
    from fovea.knowledge.norms import COHORT_NAME, LEAST_N

    settings = settings_from()
    if not re.match(COHORT_NAME, name):
        raise typer.BadParameter(
            "3 to 60 letters, digits, spaces, hyphens or underscores", param_hint="--name"
        )
    if least < LEAST_N:
        raise typer.BadParameter(f"at least {LEAST_N}", param_hint="--least")
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    norms, few = build_norms(read_table(cohort), cohort=name, built=today, least_n=least)
    path = out or settings.norms or settings.data_dir / "norms.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = norms.model_dump(mode="json", exclude_none=True)
    path.write_text(
        yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None),
        encoding="utf-8",
    )
    for item in few:
        note(f"`{item.name}` by `{item.made_by}` has {item.n} values, too few: left out")
    if as_json:
        show_json({"norms": str(path), "measurements": len(norms.norms), "too_few": len(few)})
    else:
        typer.echo(f"{path}\t{len(norms.norms)} measurements\t{len(few)} left out")


@app.command()
def show(as_json: Json = False) -> None:
    """Print the percentiles in use. Example: fovea norms show."""
    from fovea.knowledge.loading import read_norms
    from fovea.knowledge.norms import RANKS

    path = settings_from().norms_in_use()
    if path is None:
        if as_json:
            show_json(None)
        else:
            typer.echo("No cohort is in use. `fovea norms build` makes one")
        return
    norms = read_norms(path)
    if as_json:
        show_json(norms.model_dump(mode="json"))
        return
    typer.echo(f"{norms.cohort}, built {norms.built}, {path}")
    picked = [RANKS.index(rank) for rank in (2.5, 50.0, 97.5)]
    typer.echo("measurement\tunit\twho\tn\t2.5 %\t50 %\t97.5 %\tmade by")
    for norm in norms.norms:
        for stratum in norm.strata:
            ends = "\t".join(f"{stratum.percentiles[k]:.4g}" for k in picked)
            label = f"{norm.output} ({norm.zone})" if norm.zone else norm.output
            who = stratum.said or "all"
            typer.echo(f"{label}\t{norm.unit}\t{who}\t{stratum.n}\t{ends}\t{norm.made_by}")
