"""The table of measures is that of the code, and the example runs.

`python tests/docs/test_biomarkers.py` writes the table anew.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from fovea_plugins.biomarkers.definitions import DEFINITIONS
from fovea_plugins.biomarkers.disc_values import DEFINITIONS as DISC

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "biomarkers.md"
MANIFEST = ROOT / "plugins" / "fovea_plugins" / "biomarkers" / "plugin.toml"


def cell(text: str) -> str:
    return text.replace("|", "\\|").rstrip(".")


def vessel_table() -> str:
    """A row for each measure; the same in other units shares the row."""
    rows = ["| measure | formula | unit | plausible range | on | source |", "|" + "---|" * 6]
    for name, meant in DEFINITIONS.items():
        if meant.scales:
            continue
        family = {name: meant} | {n: m for n, m in DEFINITIONS.items() if m.scales == name}
        units = "<br>".join(f"`{n}` {m.unit}" for n, m in family.items())
        ranges = "<br>".join(f"{m.low:.4g} to {m.high:.4g}" for m in family.values())
        on = ", ".join(meant.vessels) + {"field": "; whole field", "zone_b": "; zone B"}.get(
            meant.where, "; every region"
        )
        rows.append(
            f"| `{name}` | {cell(meant.meaning)} | {units} | {ranges} | {on} | "
            f"{'' if meant.source == 'direct' else cell(meant.source)} |"
        )
    return "\n".join(rows) + "\n"


def disc_table() -> str:
    """A row for each measure of disc and cup."""
    rows = ["| measure | formula | unit | plausible range | needs |", "|" + "---|" * 5]
    for name, meant in DISC.items():
        needs = ", ".join(meant.needs) or "disc"
        rows.append(
            f"| `{name}` | {cell(meant.meaning)} | {meant.unit} | {meant.low:.4g} to "
            f"{meant.high:.4g} | {needs} |"
        )
    return "\n".join(rows) + "\n"


def stated_table() -> str:
    """What the tool itself states; all else is in its table of values."""
    outputs = tomllib.loads(MANIFEST.read_text(encoding="utf-8"))["outputs"]
    stated = [o for o in outputs if o.get("kind", "measurement") == "measurement"]
    return ", ".join(f"`{output['name']}`" for output in stated) + ".\n"


TABLES = {"vessels": vessel_table, "disc": disc_table, "stated": stated_table}


def written(text: str) -> str:
    """The guide with its tables made anew."""
    for name, table in TABLES.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, rest = text.split(start)
        text = before + start + table() + end + rest.split(end)[1]
    return text


def test_the_tables_are_those_of_the_code() -> None:
    guide = GUIDE.read_text(encoding="utf-8")
    assert written(guide) == guide, "run `python tests/docs/test_biomarkers.py`"


def test_every_measure_says_how_it_depends_on_resolution() -> None:
    guide = GUIDE.read_text(encoding="utf-8")
    section = guide.split("## Resolution")[1].split("\n## ")[0]
    named = set(re.findall(r"`([a-z0-9_]+)`", section))
    bases = {name for name, meant in DEFINITIONS.items() if not meant.scales}
    assert bases - named == set()
    assert named - set(DEFINITIONS) - {"measure"} == set()


def test_the_example_of_the_library_runs() -> None:
    guide = GUIDE.read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", guide, flags=re.DOTALL)
    assert examples
    for example in examples:
        exec(compile(example, "biomarkers.md", "exec"), {})  # noqa: S102 - our own text


if __name__ == "__main__":
    GUIDE.write_text(written(GUIDE.read_text(encoding="utf-8")), encoding="utf-8")
