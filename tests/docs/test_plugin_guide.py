"""The guide for plugin authors says what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from fovea.contract import Context, Plugin
from fovea.manifest import Inputs, Manifest, Output, Weights
from fovea.testing import fake_manifest, synthetic_photograph

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "writing-plugins.md").read_text()


@pytest.mark.parametrize("model", [Manifest, Inputs, Output, Weights])
def test_every_manifest_field_is_explained(model: type[BaseModel]) -> None:
    for name, field in model.model_fields.items():
        assert f"| `{name}` | {field.description}" in GUIDE, f"{model.__name__}.{name}"


def test_the_example_class_runs(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)
    names: dict[str, type[Plugin]] = {}  # type: ignore[type-arg]
    exec(compile(example, "writing-plugins.md", "exec"), names)  # noqa: S102 - our own text
    plugin = names["Brightness"](fake_manifest("brightness"), tmp_path)
    context = Context(images=(synthetic_photograph("img1"),), work_dir=tmp_path)
    assert 0 < plugin.run(context, plugin.Args()).measurements[0].value < 1
