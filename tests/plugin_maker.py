"""Small plugins written to a folder, for tests of the host."""

from __future__ import annotations

from pathlib import Path

TOML = """
name = "{name}"
version = "1.0.0"
api_version = 1
title = "Test {name}"
when_to_use = "Only in tests: measures something called {name} in a photograph."
examples = ["Run {name} on this photograph.", "What is the {name} value here?"]
entry = "plugin:P"
intended_use = "Tests of the host."
limitations = ["None that matter."]
references = ["None."]
timeout_s = {timeout_s}
{extra}

[inputs]
images = 1
modality = "any"
{inputs}

[[outputs]]
name = "{name}_value"
kind = "measurement"
unit = "{unit}"
meaning = "A value for tests."
low = 0.0
high = 1.0

[[outputs]]
name = "{name}_mask"
kind = "mask"
meaning = "A mask for tests."
"""

CODE = """
import time
from pathlib import Path
import numpy as np
from fovea.contract import *
from fovea.contract import Artifact, Measurement, Plugin, Result
from fovea.errors import NotApplicable

def value(v, name="{name}_value", unit="{unit}"):
    return Measurement.model_construct(
        name=name, value=v, unit=unit, method="test", eye=None, zone=None, interval=None)

def result(*measurements, **more):
    return Result.model_construct(
        summary="Value given.", measurements=measurements, findings=(), not_measured=(),
        artifacts=more.get("artifacts", ()), caveats=(), similar=(), passages=())

class P(Plugin[NoArgs]):
    Args = NoArgs
    def run(self, context, args):
{body}
"""


def make_plugin(
    parent: Path,
    name: str,
    body: str = "return result(value(0.5))",
    *,
    unit: str = "1",
    timeout_s: float = 20.0,
    inputs: str = "",
    extra: str = "",
) -> Path:
    folder = parent / name
    folder.mkdir(parents=True)
    words = {"name": name, "unit": unit, "timeout_s": timeout_s, "inputs": inputs, "extra": extra}
    (folder / "plugin.toml").write_text(TOML.format(**words))
    indented = "\n".join("        " + line for line in body.splitlines())
    (folder / "plugin.py").write_text(CODE.format(name=name, unit=unit, body=indented))
    (folder / "__init__.py").write_text("")
    return folder
