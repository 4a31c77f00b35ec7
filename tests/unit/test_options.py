"""Options of plugins in the settings: read, checked at the start, used where a call is silent."""

from __future__ import annotations

from pathlib import Path

import pytest

from fovea.assistant import Assistant
from fovea.errors import ConfigError
from fovea.options import read_options
from fovea.runner import finished
from fovea.settings import Settings

POINT = "classify_disease.operating_point"


def test_values_are_json_or_text() -> None:
    assert read_options(["a.k=3", "a.on=true", "b.name=two words", "b.text=x=y"]) == {
        "a": {"k": 3, "on": True},
        "b": {"name": "two words", "text": "x=y"},
    }


@pytest.mark.parametrize("entry", ["a", "a.b", "a=3", ".b=3", "a.=3", "a.b="])
def test_what_cannot_be_read_is_refused(entry: str) -> None:
    with pytest.raises(ConfigError, match=r"tool\.argument=value") as caught:
        read_options([entry])
    assert f"`{entry}`" in str(caught.value)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (f"{POINT}=bold", "high_sensitivity"),
        ("classify_disease.cut=0.3", "cut"),
        ("clasify_disease.operating_point=balanced", "no such plugin"),
    ],
)
def test_an_option_that_fits_no_plugin_stops_the_start(
    option: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        Assistant(Settings(data_dir=tmp_path, plugin_options=(option,)))


def test_a_call_that_names_the_argument_wins(tmp_path: Path, retina_path: Path) -> None:
    option = f"{POINT}=high_sensitivity"
    assistant = Assistant(Settings(data_dir=tmp_path, plugin_options=(option,)))
    session = assistant.store.create()
    session.add_image(retina_path)
    bench = assistant.workbench(session)
    silent = finished(bench.run("classify_disease", {}, ("img1",)))
    named = finished(
        bench.run("classify_disease", {"operating_point": "high_specificity"}, ("img1",))
    )
    assert "high sensitivity operating point" in silent.result.summary
    assert silent.provenance.arguments == {"operating_point": "high_sensitivity"}
    assert "high specificity operating point" in named.result.summary
