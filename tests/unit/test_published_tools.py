"""A user points to weights of a published network: a tool comes of it, and stands back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from published_weights import NAMES, drawn, make_small, random_weights, stored
from routing_tools import offered
from typer.testing import CliRunner

from fovea.cli import app
from fovea.contract import Context, read_mask
from fovea.errors import ConfigError, NotApplicable, PluginUnavailable, WeightsError
from fovea.image import Photograph
from fovea.llm.base import ImageFact, session_facts
from fovea.llm.rules import RulesChatModel
from fovea.manifest import read_manifest
from fovea.offer import offered_tools
from fovea.registry import Registry
from fovea.runner import finished
from fovea.settings import Settings
from fovea_plugins.segmenter.published import catalogue
from fovea_plugins.segmenter.published.adding import add_published, published
from fovea_plugins.segmenter.published.catalogue import BIG_WNET, RRWNET, VARIANTS, WNET
from fovea_plugins.segmenter.published.reading import build

NETWORKS = (WNET, BIG_WNET, RRWNET)
FOLDER = Path(catalogue.__file__).parent


@pytest.fixture(scope="module")
def photograph() -> Photograph:
    return drawn()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)


@pytest.fixture
def added(small: None, plugins: Path, tmp_path: Path) -> Callable[[str], Registry]:
    def add(name: str) -> Registry:
        file = tmp_path / f"{name}.safetensors"
        file.write_bytes(random_weights(name))
        sha256 = hashlib.sha256(random_weights(name)).hexdigest()
        add_published(name, file, sha256=sha256, plugins_dir=plugins)
        return Registry.discover(Settings(plugins_dir=plugins))

    return add


def context(photograph: Photograph, folder: Path) -> Context:
    folder.mkdir()
    return Context(images=(photograph,), work_dir=folder)


# A user points to weights


def test_without_weights_there_is_no_such_tool() -> None:
    names = Registry.discover(Settings()).names()
    assert not {row["tool"] for row in published()} & set(names)


def test_manifests_say_what_the_catalogue_says() -> None:
    tools = {row["tool"] for row in published()}
    for network in NETWORKS:
        manifest = read_manifest(FOLDER / f"{network.key}.toml")
        assert manifest.name == network.tool
        assert manifest.alternative_to == "segment_vessels"
        assert not manifest.weights
        assert len(set(manifest.examples)) >= 8
        tools.discard(manifest.name)
    assert not tools
    told = " ".join(read_manifest(FOLDER / "rrwnet.toml").limitations)
    assert "62 million parameters" in told
    assert "47 CPU-seconds" in told


def test_another_digest_is_refused(tmp_path: Path, plugins: Path) -> None:
    path = tmp_path / "mine.safetensors"
    found = stored(build(WNET), path)
    with pytest.raises(WeightsError, match=r"mine\.safetensors") as raised:
        add_published("wnet-drive", path, sha256="0" * 64, plugins_dir=plugins)
    assert found in str(raised.value)
    assert "models convert" in raised.value.fix
    assert not list(plugins.iterdir())


def test_unknown_networks_and_second_ones_are_refused(
    added: Callable[[str], Registry], plugins: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="rrwnet-rite"):
        add_published("rrwnet", tmp_path, sha256="", plugins_dir=plugins)
    added("wnet-drive")
    with pytest.raises(ConfigError, match="already"):
        added("wnet-drive")


@pytest.mark.parametrize("name", NAMES)
def test_added_weights_give_masks_in_the_frame_of_the_photograph(
    name: str, added: Callable[[str], Registry], photograph: Photograph, tmp_path: Path
) -> None:
    registry = added(name)
    network = VARIANTS[name].network
    assert registry.problems == ()
    told: list[str] = []
    running = registry.call(network.tool, context(photograph, tmp_path / "work"), {})
    try:
        while True:
            told.append(next(running))
    except StopIteration as stopped:
        record = stopped.value
    result = record.result  # the host has checked names, frames and values
    masks = {a.name: read_mask(a.path) for a in result.artifacts if a.kind == "mask"}
    wanted = {"vessels"} if network is WNET else {"vessels", "arteries", "veins"}
    assert masks.keys() == wanted
    assert not (masks["vessels"] & ~photograph.field_of_view).any()
    if network is BIG_WNET:
        assert ((masks["arteries"] ^ masks["veins"]) == masks["vessels"]).all()
    assert record.weights_sha256.keys() == {f"weights/{name}.safetensors"}
    assert network.title in result.summary
    assert network.title in told[0]
    assert {c.code for c in result.caveats} == {"published_weights", "cost"}


def test_rrwnet_says_what_it_costs_when_it_is_chosen(
    added: Callable[[str], Registry], photograph: Photograph, tmp_path: Path
) -> None:
    registry = added("rrwnet-rite")
    running = registry.call("segment_vessels_rrwnet", context(photograph, tmp_path / "work"), {})
    first = next(running)
    assert "62 million parameters" in first
    assert "47 CPU-seconds" in first
    assert "pass 1 of 7" in first
    caveats = {c.code: c.text for c in finished(running).result.caveats}
    assert "62 million parameters" in caveats["cost"]
    assert "47 CPU-seconds" in caveats["cost"]


def test_altered_weights_are_refused(
    added: Callable[[str], Registry], photograph: Photograph, plugins: Path, tmp_path: Path
) -> None:
    registry = added("wnet-drive")
    file = plugins / "segment_vessels_wnet" / "weights" / "wnet-drive.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(PluginUnavailable, match=r"wnet-drive\.safetensors") as raised:
        finished(registry.call("segment_vessels_wnet", context(photograph, tmp_path / "w"), {}))
    assert raised.value.fix


def test_weights_changed_with_their_digest_are_refused_too(
    added: Callable[[str], Registry], photograph: Photograph, plugins: Path, tmp_path: Path
) -> None:
    added("wnet-drive")
    folder = plugins / "segment_vessels_wnet"
    file = folder / "weights" / "wnet-drive.safetensors"
    old, size = hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_size
    new = stored(build(BIG_WNET), file)
    text = (folder / "plugin.toml").read_text()
    text = text.replace(old, new).replace(f"bytes = {size}", f"bytes = {file.stat().st_size}")
    (folder / "plugin.toml").write_text(text)
    registry = Registry.discover(Settings(plugins_dir=plugins))
    with pytest.raises(PluginUnavailable, match="weights of Big W-Net, not of Little W-Net"):
        finished(registry.call("segment_vessels_wnet", context(photograph, tmp_path / "w"), {}))


def test_an_implausible_answer_is_refused(
    small: None, photograph: Photograph, plugins: Path, tmp_path: Path
) -> None:
    network = build(WNET)
    with torch.no_grad():
        network.unet2.final.bias[0] = 50.0
    sha256 = stored(network, tmp_path / "a.safetensors")
    add_published("wnet-drive", tmp_path / "a.safetensors", sha256=sha256, plugins_dir=plugins)
    registry = Registry.discover(Settings(plugins_dir=plugins))
    with pytest.raises(NotApplicable, match="believable"):
        finished(registry.call("segment_vessels_wnet", context(photograph, tmp_path / "w"), {}))


# It stands back


def test_it_is_never_run_unasked(added: Callable[[str], Registry], plugins: Path) -> None:
    registry = added("rrwnet-rite")
    assert "segment_vessels_rrwnet" in registry.healthy_names()
    assert "segment_vessels_rrwnet" not in registry.unasked_names()
    assert registry.provider("vessels") == "segment_vessels"
    alone = Settings(plugins_dir=plugins, plugins=("segment_vessels_rrwnet", "measure_biomarkers"))
    chosen = Registry.discover(alone)
    assert chosen.provider("vessels") == "segment_vessels_rrwnet"
    assert "segment_vessels_rrwnet" in chosen.unasked_names()


@pytest.fixture
def called(added: Callable[[str], Registry]) -> Callable[[str], set[str]]:
    """Which tools a question reaches while all three networks are there."""
    registry = [added(name) for name in NAMES][-1]
    others = [t for t in offered_tools(registry, ("img1",)) if t["name"].count("_") > 1]
    tools = [*offered(1), *(t for t in others if t["name"].startswith("segment_vessels_"))]
    model = RulesChatModel().bind_tools(tools)
    facts = SystemMessage(session_facts([ImageFact("img1")]))

    def ask(question: str) -> set[str]:
        reply = model.invoke([facts, HumanMessage(question)])
        assert isinstance(reply, AIMessage)
        return {call["name"] for call in reply.tool_calls}

    return ask


def test_it_is_reached_by_name_only(called: Callable[[str], set[str]]) -> None:
    assert called("Segment the vessels with RRWNet.") == {"segment_vessels_rrwnet"}
    assert called("Please run RRWNet on this photograph.") == {"segment_vessels_rrwnet"}
    assert "segment_vessels_rrwnet" in called("Use RRWNet to tell arteries from veins.")
    assert called("Segment the vessels with the little W-Net.") == {"segment_vessels_wnet"}
    assert called("Segment the vessels with the big W-Net.") == {"segment_vessels_big_wnet"}
    file = Path(__file__).parents[1] / "flow" / "routing_questions.jsonl"
    entries = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    asked = [e["question"] for e in entries if e["split"] == "dev" and not e["history"]]
    assert len(asked) > 200
    for question in asked:
        assert not any(name.startswith("segment_vessels_") for name in called(question)), question


# Commands


def test_models_are_listed_and_added_by_command(small: None, tmp_path: Path) -> None:
    listed = CliRunner().invoke(app, ["models", "list", "--json"])
    rows = {row["name"]: row for row in json.loads(listed.stdout)}
    assert rows["rrwnet-rite"]["parameters"] == 62_063_685
    assert not any(row["available"] for row in rows.values())
    file, folder = tmp_path / "w.safetensors", tmp_path / "mine"
    file.write_bytes(random_weights("wnet-drive"))
    sha256 = hashlib.sha256(random_weights("wnet-drive")).hexdigest()
    asked = ["models", "add", "wnet-drive", str(file), "--sha256", sha256]
    refused = CliRunner().invoke(app, asked)
    assert isinstance(refused.exception, ConfigError)
    assert "FOVEA_PLUGINS_DIR" in refused.exception.fix
    done = CliRunner().invoke(app, [*asked, "--plugins-dir", str(folder)])
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(folder / "segment_vessels_wnet")
    listed = CliRunner().invoke(app, ["models", "list", "--plugins-dir", str(folder)])
    assert listed.stdout.count("`segment_vessels_wnet` is available; trained on DRIVE") == 1
    assert listed.stdout.count("weights not given") == len(rows) - 1
