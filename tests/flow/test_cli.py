"""The commands as other programs use them: JSON keys, files, exit codes, messages."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from PIL import Image
from plugin_maker import make_plugin
from typer.testing import CliRunner

from fovea import errors
from fovea.cli import app, main

RUNNER = CliRunner()


def fovea(*arguments: str | Path, code: int = 0) -> str:
    done = RUNNER.invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.stdout


def test_ask_answers_with_numbers_units_and_evidence(retina_path: Path) -> None:
    question = "What is the cup-to-disc ratio and the vessel density?"
    answer = json.loads(fovea("ask", retina_path, "-q", question, "--json"))
    assert set(answer) == {"answer", "calls", "evidence", "seconds", "notices"}
    for call in answer["calls"]:
        assert set(call) == {"tool", "arguments", "status", "seconds", "evidence"}
    measured = {
        m["name"]: (key, m) for key, e in answer["evidence"].items() for m in e["measurements"]
    }
    for name in ("vertical_cdr", "vessel_density"):
        key, measurement = measured[name]
        assert measurement["unit"] == "1"
        assert f"[{key}]" in answer["answer"]
        shown = f"{measurement['value']:.2f}", f"{100 * measurement['value']:.1f}"
        assert any(text in answer["answer"] for text in shown)


def test_plan_runs_nothing(tmp_path: Path) -> None:
    planned = json.loads(
        fovea("plan", "-q", "How dense are the vessels?", "--images", "1", "--json")
    )
    assert [call["tool"] for call in planned["calls"]] == ["measure_biomarkers"]
    assert set(planned) == {"id", "calls", "reply", "seconds"}


def test_plan_reads_a_file_of_questions(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    history = [
        {"role": "user", "content": "What is the cup-to-disc ratio of the first photograph?"},
        {"role": "assistant", "content": "The vertical cup-to-disc ratio is 0.4 [E2]."},
    ]
    rows = [
        {"id": "a", "question": "Is it sharp enough to grade?", "images": 1, "history": []},
        {"id": "b", "question": "And the other eye?", "images": 2, "history": history},
        {"id": "c", "question": "Outline the vessels", "images": 0},
    ]
    file.write_text("\n".join(json.dumps(row) for row in rows))
    lines = [json.loads(line) for line in fovea("plan", "--file", file, "--json").splitlines()]
    assert [line["id"] for line in lines] == ["a", "b", "c"]
    assert lines[0]["calls"][0]["tool"] == "assess_quality"
    assert lines[1]["calls"] == [{"tool": "segment_optic_disc", "arguments": {"image": "img2"}}]
    assert lines[2]["calls"] == []
    assert "photograph" in lines[2]["reply"]


def test_plan_names_the_line_that_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text('{"question": "a", "images": 1}\n{"questoin": "b"}\n')
    with pytest.raises(errors.FoveaError, match="line 2"):
        fovea("plan", "--file", file)


def test_analyse_writes_masks_in_the_frame_of_the_image(retina_path: Path, tmp_path: Path) -> None:
    fovea("analyse", retina_path, "--out", tmp_path / "out")
    folder = tmp_path / "out" / retina_path.stem
    result = json.loads((folder / "result.json").read_text())
    assert {"image", "evidence"} <= set(result)
    frame = cv2.imread(str(retina_path)).shape[:2]
    for name in ("vessels", "optic_disc", "optic_cup"):
        mask = cv2.imread(str(folder / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert mask.shape == frame
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) == {0, 255}
    assert (folder / "overlay.png").is_file()
    names = {m["name"] for e in result["evidence"].values() for m in e["measurements"]}
    assert {
        "vertical_cdr", "horizontal_cdr", "vessel_density", "fractal_dimension", "tortuosity",
        "quality_score", "fovea_x", "fovea_y", "disc_x", "disc_y",
    } <= names  # fmt: skip
    for evidence in result["evidence"].values():
        assert {"tool", "findings", "measurements", "artifacts", "caveats", "provenance"} <= set(
            evidence
        )
        for measurement in evidence["measurements"]:
            assert set(measurement) == {
                "name", "value", "unit", "eye", "zone", "method", "interval", "cohort",
            }  # fmt: skip


def test_analyse_only_runs_what_is_asked_and_needed(retina_path: Path, tmp_path: Path) -> None:
    fovea("analyse", retina_path, "--out", tmp_path, "--only", "segment_vessels")
    result = json.loads((tmp_path / retina_path.stem / "result.json").read_text())
    assert {e["tool"] for e in result["evidence"].values()} == {"assess_quality", "segment_vessels"}


def test_one_bad_image_does_not_stop_the_others(retina_path: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"not an image")
    rows = json.loads(
        fovea(
            "analyse",
            bad,
            retina_path,
            "--out",
            tmp_path / "o",
            "--only",
            "assess_quality",
            "--json",
            code=3,
        )
    )
    assert [row["status"] for row in rows] == ["UnreadableImage", "ok"]


def test_report_by_extension(retina_path: Path, tmp_path: Path) -> None:
    fovea("report", retina_path, "--out", tmp_path / "r.md", "--eye", "OS")
    text = (tmp_path / "r.md").read_text()
    assert text.count("\n## ") >= 17
    assert "AI DRAFT" in text
    fovea("report", retina_path, "--out", tmp_path / "r.json")
    report = json.loads((tmp_path / "r.json").read_text())
    assert len(report["sections"]) == 17
    with pytest.raises(errors.FoveaError, match=r"`\.rtf`"):
        fovea("report", retina_path, "--out", tmp_path / "r.rtf")
    fovea("report", retina_path, "--out", tmp_path / "r.dcm")
    assert pydicom.dcmread(tmp_path / "r.dcm").Modality == "SR"


def test_archive_from_folder_to_neighbour(retina_path: Path, tmp_path: Path) -> None:
    cases = tmp_path / "cases"
    cases.mkdir()
    retina = cv2.imread(str(retina_path))
    for number, factor in enumerate((0.6, 0.8, 1.1)):
        cv2.imwrite(str(cases / f"{number}.png"), cv2.convertScaleAbs(retina, alpha=factor))
    (cases / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    empty = json.loads(fovea("index", "search", retina_path, "--json"))
    assert empty["similar"] == []
    assert "empty" in empty["summary"]
    counts = json.loads(fovea("index", "add", cases, "--json", code=3))
    assert counts == {"added": 3, "failed": 1}
    found = json.loads(fovea("index", "search", retina_path, "-k", "2", "--json"))
    assert len(found["similar"]) == 2
    assert "whole" in fovea("index", "verify")


def test_plugins_and_problems_are_listed(tmp_path: Path) -> None:
    make_plugin(tmp_path, "extra_tool")
    (make_plugin(tmp_path, "broken_tool") / "plugin.toml").write_text("name =")
    listed = json.loads(fovea("plugins", "list", "--plugins-dir", tmp_path, "--json"))
    assert "extra_tool" in {row["name"] for row in listed["plugins"]}
    assert "broken_tool" in listed["problems"][0]["where"]
    assert "mean" in fovea("plugins", "info", "measure_biomarkers").lower()
    assert "conforms" in fovea("plugins", "check", "segment_vessels")


def test_knowledge_and_settings() -> None:
    assert "0 problems" in fovea("knowledge", "check")
    assert "crowston2004" in fovea("knowledge", "show", "b_vcdr")
    hits = json.loads(fovea("knowledge", "search", "CDR", "--json"))
    assert hits[0]["id"] == "b_vcdr"
    rows = json.loads(fovea("settings", "--json"))
    assert all(row["help"] and row["environment"].startswith("FOVEA_") for row in rows)


def test_doctor_finds_this_installation_sound() -> None:
    rows = json.loads(fovea("doctor", "--json"))
    assert all(row["ok"] for row in rows), [row for row in rows if not row["ok"]]


@pytest.mark.parametrize(
    "arguments",
    [["ask", "{tmp}/none.png", "-q", "cdr?"], ["report", "{retina}", "--out", "{tmp}/none/r.md"]],
)
def test_errors_are_one_message_and_exit_code_1(
    arguments: list[str],
    retina_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    filled = [part.format(tmp=tmp_path, retina=retina_path) for part in arguments]
    monkeypatch.setattr("sys.argv", ["fovea", *filled])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "Error: " in told.err
    assert "Traceback" not in told.err
    assert str(tmp_path) not in told.err


def test_a_wrong_setting_names_variable_value_and_neighbour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FOVEA_MAX_MEGAPIXEL", "10")
    with pytest.raises(errors.ConfigError, match="FOVEA_MAX_MEGAPIXELS"):
        fovea("settings")
    monkeypatch.delenv("FOVEA_MAX_MEGAPIXEL")
    monkeypatch.setenv("FOVEA_MAX_MEGAPIXELS", "many")
    with pytest.raises(errors.ConfigError, match="many"):
        fovea("settings")


def test_tracing_to_a_server_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    with pytest.raises(errors.ConfigError, match="tracing server"):
        fovea("plan", "-q", "hello")
    monkeypatch.setenv("FOVEA_ALLOW_TRACING", "true")
    fovea("settings")


@pytest.mark.parametrize("arguments", [["plan"], ["ask"], ["analyse", "x.png"], ["nothing"]])
def test_usage_errors_exit_with_2(arguments: list[str]) -> None:
    assert RUNNER.invoke(app, arguments).exit_code == 2


def test_a_cat_is_refused_and_says_why(tmp_path: Path) -> None:
    from skimage.data import chelsea

    path = tmp_path / "cat.png"
    Image.fromarray(chelsea()).save(path)
    answer = json.loads(fovea("ask", path, "-q", "What is the cup-to-disc ratio?", "--json"))
    assert "retinal photograph" in answer["answer"]
    assert not any(
        m for e in answer["evidence"].values() for m in e["measurements"] if "cdr" in m["name"]
    )


def test_details_of_a_crash_go_to_the_log_and_not_to_the_screen(
    retina_path: Path, tmp_path: Path
) -> None:
    make_plugin(tmp_path / "plugins", "crashing_tool", "raise RuntimeError('inner detail')")
    done = RUNNER.invoke(
        app,
        ["ask", str(retina_path), "-q", "Run crashing_tool on this photograph.",
         "--plugins-dir", str(tmp_path / "plugins")],
    )  # fmt: skip
    assert "internal error" in done.output
    assert "inner detail" not in done.output + done.stderr
    log = tmp_path / "home" / "fovea" / "log" / "fovea.log"
    assert "inner detail" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0


def test_a_cat_is_not_archived(tmp_path: Path, retina_path: Path) -> None:
    from skimage.data import chelsea

    cases = tmp_path / "cases"
    cases.mkdir()
    Image.fromarray(chelsea()).save(cases / "cat.png")
    (cases / "eye.png").write_bytes(retina_path.read_bytes())
    errors_csv = tmp_path / "errors.csv"
    counts = json.loads(fovea("index", "add", cases, "--errors", errors_csv, "--json", code=3))
    assert counts == {"added": 1, "failed": 1}
    assert "cat.png,NotAFundusPhotograph" in errors_csv.read_text()
