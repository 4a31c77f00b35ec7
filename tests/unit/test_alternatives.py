"""A plugin that gives what another gives runs only when asked for, and hides nothing of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from plugin_maker import make_plugin

from fovea.assistant import Assistant
from fovea.contract import read_mask
from fovea.export import write_analysis
from fovea.registry import Registry
from fovea.settings import Settings

BODY = (
    "mask = np.zeros((context.image.height, context.image.width), bool)\n"
    "mask[:{rows}] = True\n"
    "return result(value(0.5, name='{own}_value'), "
    "artifacts=(context.save_mask('usual_mask', mask),))"
)


@pytest.fixture
def both(plugins: Path) -> Path:
    make_plugin(plugins, "usual", BODY.format(rows=10, own="usual"))
    other = make_plugin(
        plugins, "other", BODY.format(rows=20, own="other"), extra='alternative_to = "usual"'
    )
    manifest = other / "plugin.toml"
    manifest.write_text(manifest.read_text().replace('"other_mask"', '"usual_mask"'))
    return plugins


def assistant(folder: Path, data: Path, *only: str) -> Assistant:
    return Assistant(Settings(plugins_dir=folder, plugins=only, data_dir=data))


def test_it_stands_back_while_the_other_is_there(both: Path) -> None:
    registry = Registry.discover(Settings(plugins_dir=both, plugins=("usual", "other")))
    assert set(registry.healthy_names()) == {"usual", "other"}
    assert registry.unasked_names() == ("usual",)
    assert registry.provider("usual_mask") == "usual"
    assert registry.provider("other_value") is None
    alone = Registry.discover(Settings(plugins_dir=both, plugins=("other",)))
    assert alone.unasked_names() == ("other",)
    assert alone.provider("usual_mask") == "other"


def test_an_analysis_runs_it_only_when_named(both: Path, retina_path: Path, tmp_path: Path) -> None:
    host = assistant(both, tmp_path / "data", "usual", "other")
    assert [e.tool for e in host.analyse(retina_path).evidence.values()] == ["usual"]
    analysis = host.analyse(retina_path, only=("other", "usual"))
    out = write_analysis(analysis, tmp_path / "out")
    # What was asked for first keeps the plain name; nothing is overwritten.
    assert read_mask(out.parent / "usual_mask.png").any(axis=1).sum() == 20
    assert read_mask(out.parent / "usual.usual_mask.png").any(axis=1).sum() == 10
    told = json.loads(out.read_text(encoding="utf-8"))["evidence"].values()
    assert {e["tool"]: e["artifacts"][0]["path"] for e in told} == {
        "other": "usual_mask.png",
        "usual": "usual.usual_mask.png",
    }
