"""Every discovered plugin through the same suite: ours, and whatever else is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fovea.assistant import Assistant
from fovea.discovery import BUILT_IN
from fovea.errors import PluginError
from fovea.events import Event, Refused
from fovea.evidence import Evidence
from fovea.registry import Registry
from fovea.session import Session
from fovea.settings import Settings
from fovea.testing import check_plugin

NAMES = Registry.discover(Settings()).names()
IMAGE_TOOLS = [n for n in NAMES if Registry.discover(Settings()).manifest(n).inputs.images == 1]


@pytest.fixture(scope="module")
def assistant(tmp_path_factory: pytest.TempPathFactory) -> Assistant:
    return Assistant(Settings(data_dir=tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def on_the_sample(assistant: Assistant, retina_path: Path) -> Session:
    session = assistant.store.create()
    session.add_image(retina_path)
    return session


def finish(running: Iterator[Event]) -> tuple[list[Event], Evidence]:
    events: list[Event] = []
    while True:
        try:
            events.append(next(running))
        except StopIteration as ended:
            return events, ended.value


def test_every_built_in_plugin_is_found_healthy() -> None:
    registry = Registry.discover(Settings())
    assert registry.problems == ()
    assert len(registry.healthy_names()) >= len(BUILT_IN)


@pytest.mark.parametrize("name", NAMES)
def test_conforms(name: str) -> None:
    assert check_plugin(Registry.discover(Settings()).entry(name).folder) == []


@pytest.mark.parametrize("name", NAMES)
def test_manifest_is_useful(name: str) -> None:
    manifest = Registry.discover(Settings()).manifest(name)
    assert len(set(manifest.examples)) >= 8, "examples are routing tests and adaptation data"
    assert manifest.references
    assert manifest.limitations


@pytest.mark.parametrize("name", IMAGE_TOOLS)
def test_answers_on_a_real_photograph(
    name: str, assistant: Assistant, on_the_sample: Session
) -> None:
    _, evidence = finish(assistant.workbench(on_the_sample).run(name, {}, ("img1",)))
    result, provenance = evidence.result, evidence.provenance
    assert result.summary
    assert provenance.plugin == name
    assert provenance.image_sha256 == (on_the_sample.images["img1"].sha256,)
    manifest = assistant.registry.manifest(name)
    assert set(provenance.weights_sha256) == {w.file for w in manifest.weights}
    told = {m.name for m in result.measurements} | {m.name for m in result.not_measured}
    declared = {o.name for o in manifest.outputs if o.kind == "measurement"}
    assert told == declared, "every declared measurement is given, or why it could not be made"
    for measurement in result.measurements:
        assert measurement.method


@pytest.mark.parametrize("name", IMAGE_TOOLS)
@pytest.mark.parametrize("kind", ["black", "white", "noise", "tiny_fundus", "stripes"])
def test_odd_pictures_give_a_result_or_a_typed_refusal(
    name: str, kind: str, assistant: Assistant, retina_path: Path, tmp_path: Path
) -> None:
    generator = np.random.default_rng(0)
    pixels = {
        "black": np.zeros((300, 300, 3), np.uint8),
        "white": np.full((300, 300, 3), 255, np.uint8),
        "noise": generator.integers(0, 255, (300, 300, 3), dtype=np.uint8),
        "tiny_fundus": np.asarray(Image.open(retina_path).resize((110, 110))),
        "stripes": np.tile(np.repeat([0, 255], 10).astype(np.uint8), (300, 15, 1))
        .transpose(0, 2, 1)[:, :15]
        .repeat(20, axis=1)[:, :300, :1]
        .repeat(3, axis=2),
    }[kind]
    path = tmp_path / "odd.png"
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)
    session = assistant.store.create()
    session.add_image(path)
    events: list[Event] = []
    try:
        for event in assistant.workbench(session).run(name, {}, ("img1",)):
            events.append(event)
    except PluginError:
        refused = [e for e in events if isinstance(e, Refused)]
        assert refused
        assert all(e.error in {"NotApplicable", "PluginUnavailable"} for e in refused)
        assert all("Traceback" not in e.reason for e in refused)
    else:
        if name == "segment_vessels":
            assert kind == "tiny_fundus", "vessels were claimed where there are none"
