"""The look-up tool quotes the knowledge base and invents nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from fovea.contract import Context
from fovea.errors import PluginUnavailable
from fovea.knowledge import load
from fovea.manifest import read_manifest
from fovea_plugins.reference.plugin import LookUp, LookUpArgs

FOLDER = Path(__file__).resolve().parents[2] / "plugins" / "fovea_plugins" / "reference"
MANIFEST = read_manifest(FOLDER / "plugin.toml")
KNOWLEDGE = load()


@pytest.fixture
def look_up(tmp_path):
    plugin = LookUp(MANIFEST, FOLDER)
    context = Context(images=(), work_dir=tmp_path, knowledge=KNOWLEDGE)
    return lambda query: plugin.run(context, LookUpArgs(query=query))


def test_quotes_word_for_word_with_sources(look_up):
    result = look_up("What does the cup-to-disc ratio mean?")
    texts = {text for _, text, _ in KNOWLEDGE.get("b_vcdr").statements()}
    quoted = [passage for passage in result.passages if passage.entry_id == "b_vcdr"]
    assert {passage.text for passage in quoted} == texts
    assert all(passage.sources for passage in result.passages)
    assert "[K:b_vcdr]" in result.summary
    assert result.caveats[0].code == "draft"


def test_nothing_found_says_so_and_quotes_nothing(look_up):
    result = look_up("weather in Paris")
    assert result.passages == ()
    assert "no entry" in result.summary


@pytest.mark.parametrize("question", MANIFEST.examples)
def test_every_example_finds_something(look_up, question):
    result = look_up(question)
    assert result.passages
    assert len(result.summary) <= 400


@pytest.mark.parametrize("identifier", sorted(KNOWLEDGE.entries))
def test_every_entry_can_be_looked_up(look_up, identifier):
    result = look_up(identifier)
    assert result.passages[0].entry_id == identifier


def test_loose_match_is_marked(look_up):
    result = look_up("hypertension signs in the retina")
    assert "loose_match" in {caveat.code for caveat in result.caveats}


def test_without_knowledge_it_is_unavailable(tmp_path):
    with pytest.raises(PluginUnavailable):
        LookUp(MANIFEST, FOLDER).run(
            Context(images=(), work_dir=tmp_path), LookUpArgs(query="drusen")
        )


def test_arguments_are_bounded():
    for bad in ({"query": ""}, {"query": "x" * 201}, {"query": "x", "path": "/"}, {}):
        with pytest.raises(ValidationError):
            LookUpArgs.model_validate(bad)
