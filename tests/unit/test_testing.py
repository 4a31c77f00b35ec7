"""The public fakes do what plugin authors are told, and the conformance suite finds faults."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage
from plugin_maker import make_plugin
from routing_tools import offered, tool

from fovea.contract import Context, Finding, NoArgs, Result
from fovea.errors import NotApplicable
from fovea.testing import (
    EveryTool,
    FakePlugin,
    ScriptedModel,
    check_plugin,
    fake_manifest,
    synthetic_fundus,
    synthetic_photograph,
)


def test_scripted_model_follows_its_script() -> None:
    model = ScriptedModel(replies=[[("assess_quality", {"image": "img1"})], "Done."])
    bound = model.bind_tools(offered(2))
    first = bound.invoke([HumanMessage("Is it sharp?")])
    assert first.tool_calls[0]["args"] == {"image": "img1"}
    assert bound.invoke([HumanMessage("And now?")]).text == "Done."
    assert [len(messages) for messages in model.seen] == [1, 1]
    with pytest.raises(AssertionError, match="another was asked for"):
        bound.invoke([HumanMessage("More?")])


def test_every_tool_is_called_once_with_valid_arguments() -> None:
    nested = tool(
        "strange",
        required=("mode", "depth", "note", "zones"),
        mode={"enum": ["fast", "slow"]},
        depth={"type": "number", "exclusiveMinimum": 2, "maximum": 3},
        note={"type": "string", "minLength": 4},
        zones={"type": "array", "items": {"type": "integer", "minimum": 7}, "minItems": 2},
        free={"type": "string"},
    )
    reply = EveryTool().bind_tools([*offered(2), nested]).invoke("anything")
    assert len({call["name"] for call in reply.tool_calls}) == len(reply.tool_calls) == 13
    arguments = {call["name"]: call["args"] for call in reply.tool_calls}
    assert arguments["assess_quality"] == {"image": "img1"}
    strange = arguments["strange"]
    assert set(strange) == {"mode", "depth", "note", "zones"}
    assert strange["mode"] == "fast"
    assert 2 < strange["depth"] <= 3
    assert len(strange["note"]) >= 4
    assert strange["zones"] == [7, 7]


def test_fake_plugin_answers_and_refuses(tmp_path: Path) -> None:
    context = Context(images=(synthetic_photograph(),), work_dir=tmp_path)
    plugin = FakePlugin(Result(summary="Nothing."))
    assert plugin.run(context, NoArgs()).summary == "Nothing."
    assert plugin.contexts == [context]
    with pytest.raises(NotApplicable):
        FakePlugin(NotApplicable("fake_tool", "No")).run(context, NoArgs())
    assert fake_manifest("other_tool", timeout_s=3).timeout_s == 3


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("eye", ["OD", "OS"])
def test_drawn_fundus_is_what_it_says(ratio: float, eye: str) -> None:
    fundus = synthetic_fundus(500, 620, vertical_cdr=ratio, eye=eye)  # type: ignore[arg-type]
    assert fundus.pixels.shape == (500, 620, 3)
    disc_rows, cup_rows = fundus.disc.any(axis=1).sum(), fundus.cup.any(axis=1).sum()
    assert cup_rows / disc_rows == pytest.approx(ratio, abs=0.04)
    assert (fundus.disc_x > fundus.fovea_x) == (eye == "OD")
    assert 0.03 < fundus.vessels.mean() < 0.25
    assert (fundus.pixels == synthetic_fundus(500, 620, vertical_cdr=ratio, eye=eye).pixels).all()  # type: ignore[arg-type]
    photograph = synthetic_photograph(fundus=fundus)
    assert photograph.field_circle.radius == pytest.approx(0.48 * 500, rel=0.05)
    assert not photograph.pixels.flags.writeable


def test_drawn_fundus_refuses_what_it_cannot_draw() -> None:
    with pytest.raises(ValueError, match="200"):
        synthetic_fundus(100, 100)


def conforming(tmp_path: Path, name: str, body: str = "return result(value(0.5))") -> Path:
    make_plugin(tmp_path, name, body)
    return tmp_path / name


def edit(folder: Path, old: str, new: str) -> Path:
    source = folder / "plugin.py"
    text = source.read_text()
    assert old in text
    source.write_text(text.replace(old, new))
    return folder


def test_conforming_plugin_has_no_problems(tmp_path: Path) -> None:
    assert check_plugin(conforming(tmp_path, "good_one")) == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return result(value(7.0))", "outside its plausible range"),
        ('return result(value(0.5, name="other"))', "does not declare"),
        ("return result(value(time.time() % 1))", "deterministic"),
        ("raise RuntimeError('x')", "internal error"),
        ("context.image.pixels[0, 0] = 0; return result(value(0.5))", "internal error"),
    ],
)
def test_bad_results_are_found(tmp_path: Path, body: str, said: str) -> None:
    assert any(said in problem for problem in check_plugin(conforming(tmp_path, "bad_one", body)))


def test_definite_refusal_conforms(tmp_path: Path) -> None:
    body = 'raise NotApplicable("refusing_one", "Not for drawings")'
    assert check_plugin(conforming(tmp_path, "refusing_one", body)) == []


def test_forbidden_imports_and_arguments_are_found(tmp_path: Path) -> None:
    folder = conforming(tmp_path, "rude_one")
    edit(
        folder, "import time", "import time\nimport fovea.registry\nfrom pydantic import BaseModel"
    )
    edit(
        folder,
        "class P(Plugin[NoArgs]):\n    Args = NoArgs",
        "class Loose(BaseModel):\n    file_path: str = ''\n    image: str = ''\n\n"
        "class P(Plugin[Loose]):\n    Args = Loose",
    )
    said = "\n".join(check_plugin(folder))
    for expected in ("imports `fovea.registry`", 'extra="forbid"', "no description",
                     "looks like a path", "the host adds"):  # fmt: skip
        assert expected in said


def test_broken_manifest_and_code_are_problems_not_errors(tmp_path: Path) -> None:
    assert "plugin.toml" in check_plugin(tmp_path)[0]
    folder = edit(conforming(tmp_path, "broken_one"), "class P(", "class P((")
    assert any("not valid Python" in problem for problem in check_plugin(folder))


def test_edited_plugin_is_read_again(tmp_path: Path) -> None:
    folder = conforming(tmp_path, "edited_one", "return result(value(7.0))")
    assert check_plugin(folder)
    assert check_plugin(edit(folder, "value(7.0)", "value(0.250)")) == []


def test_fovea_alone_stays_light() -> None:
    code = "import sys, fovea; print([m for m in sys.modules if m.startswith('langchain')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_finding_results_can_be_faked(tmp_path: Path) -> None:
    result = Result(summary="Seen.", findings=(Finding(concept="drusen", state="present"),))
    plugin = FakePlugin(lambda context: result)
    assert plugin.run(Context(images=(), work_dir=tmp_path), NoArgs()) is result
