"""`fovea batch` and `fovea index add`, here and on a Ray cluster of two workers."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from plugin_maker import make_plugin
from typer.testing import CliRunner

from fovea.archive import CaseArchive, Embedding, index_folder
from fovea.assistant import Assistant
from fovea.batch import run_batch
from fovea.batch_rows import measured_in_batch
from fovea.cli import app
from fovea.contract import Neighbour
from fovea.errors import ConfigError
from fovea.runner import finished
from fovea.settings import Settings
from fovea.ui.evidence import compared_pictures
from fovea.workbench import load_encoder
from fovea.workers import work_through

BODY = """
import os, signal
calls = Path(r"{room}") / "calls"
digest = context.image.sha256
with calls.open("a") as opened:
    opened.write(digest + chr(10))
for name, gone in (("kill_once", True), ("kill_always", False), ("crash", None)):
    marker = calls.with_name(name)
    if marker.exists() and marker.read_text() == digest:
        if gone is None:
            raise RuntimeError("inner detail")
        if gone:
            marker.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
return result(value(float(context.image.pixels.mean() / 255)))
"""


def make_eyes(folder: Path, count: int) -> dict[str, float]:
    """Discs of one colour each; the mean of all their values by file."""
    folder.mkdir(parents=True)
    means = {}
    for number in range(count):
        picture = cv2.circle(
            np.zeros((200, 200, 3), np.uint8), (100, 100), 90, (20, 60, 90 + 9 * number), -1
        )
        cv2.imwrite(str(folder / f"eye{number}.png"), picture)
        means[f"eye{number}.png"] = float(picture.mean() / 255)
    return means


@pytest.fixture
def place(tmp_path: Path, plugins: Path) -> SimpleNamespace:
    """Four photographs, a text, and one tool that notes each call (or kills its process)."""
    folder, room = tmp_path / "photographs", tmp_path / "room"
    room.mkdir()
    means = make_eyes(folder, 4)
    (folder / "notes.txt").write_text("no photograph")
    make_plugin(plugins, "brightness", BODY.format(room=room))
    settings = Settings(data_dir=tmp_path / "data", plugins=("brightness",), plugins_dir=plugins)
    return SimpleNamespace(
        folder=folder, room=room, means=means, settings=settings, out=tmp_path / "out"
    )


def digest_of(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def calls(place: SimpleNamespace) -> Counter[str]:
    """How often the tool was called, by file."""
    names = {digest_of(path): path.name for path in place.folder.iterdir()}
    return Counter(names[digest] for digest in (place.room / "calls").read_text().split())


def run(place: SimpleNamespace, out: Path | None = None, **how: Any) -> list[Any]:
    made = run_batch(place.folder, out or place.out, settings=place.settings, **how)
    return list(made)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def tables(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("*.csv")}


def test_a_folder_becomes_a_table(place: SimpleNamespace) -> None:
    events = run(place)
    assert [e.number for e in events] == [*range(1, 6)]
    rows = {row["file"]: row for row in table(place.out / "results.csv")}
    assert list(rows) == sorted([*place.means, "notes.txt"])
    for file, mean in place.means.items():
        assert float(rows[file]["brightness_value [1]"]) == pytest.approx(mean, rel=1e-5)
        assert rows[file]["status"] == "ok"
        assert rows[file]["sha256"] == digest_of(place.folder / file)
    assert rows["notes.txt"]["status"] == "failed"
    assert rows["notes.txt"]["brightness_value [1]"] == "", "unknown is empty, never zero"
    [error] = table(place.out / "errors.csv")
    assert (error["file"], error["error"]) == ("notes.txt", "UnreadableImage")
    assert not list((place.settings.data_dir / "sessions").iterdir()), "no copy is left behind"


def test_an_interrupted_run_goes_on_and_does_nothing_twice(
    place: SimpleNamespace, tmp_path: Path
) -> None:
    stop_after = 2
    running = run_batch(place.folder, place.out, settings=place.settings)
    with closing(running):
        for _ in range(stop_after):
            next(running)
    assert len(table(place.out / "results.csv")) == stop_after
    events = run(place)
    assert sum(event.kept for event in events) == stop_after
    assert calls(place) == Counter(place.means.keys())
    run(place, tmp_path / "in one go")
    assert tables(place.out) == tables(tmp_path / "in one go")


def test_half_a_line_of_a_killed_run_is_made_again(place: SimpleNamespace) -> None:
    run(place)
    before = tables(place.out)
    journal = place.out / "rows.jsonl"
    journal.write_bytes(journal.read_bytes()[:-25])  # within the row of notes.txt, the last one
    assert [e.file for e in run(place) if not e.kept] == ["notes.txt"]
    assert tables(place.out) == before


def test_a_changed_photograph_is_measured_again_and_a_removed_one_leaves(
    place: SimpleNamespace,
) -> None:
    run(place)
    shutil.copyfile(place.folder / "eye3.png", place.folder / "eye0.png")
    (place.folder / "eye1.png").unlink()
    assert [e.file for e in run(place) if not e.kept] == ["eye0.png"]
    rows = {row["file"]: row["brightness_value [1]"] for row in table(place.out / "results.csv")}
    assert rows["eye0.png"] == rows["eye3.png"]
    assert "eye1.png" not in rows


def test_a_crash_of_a_tool_is_told_and_tried_again(place: SimpleNamespace) -> None:
    (place.room / "crash").write_text(digest_of(place.folder / "eye2.png"))
    assert {e.file: e.status for e in run(place)}["eye2.png"] == "partial"
    [crash, _] = table(place.out / "errors.csv")
    assert (crash["file"], crash["tool"], crash["error"]) == (
        "eye2.png", "brightness", "PluginFailed",
    )  # fmt: skip
    (place.room / "crash").unlink()
    (place.folder / "eye2.png").rename(place.folder / os.fsdecode(b"\xe92.png"))
    assert [e.file for e in run(place) if not e.kept] == [r"\xe92.png"], "no text, still a row"
    assert len(table(place.out / "errors.csv")) == 1


def test_rows_of_other_tools_are_not_mixed_in(place: SimpleNamespace) -> None:
    run(place)
    before = tables(place.out)
    manifest = place.settings.plugins_dir / "brightness" / "plugin.toml"
    manifest.write_text(manifest.read_text().replace('version = "1.0.0"', 'version = "1.0.1"'))
    with pytest.raises(ConfigError, match="These differ: brightness"):
        run(place)
    assert tables(place.out) == before
    with pytest.raises(ConfigError, match="no folder"):
        run_batch(place.folder / "absent", place.out, settings=place.settings)
    with pytest.raises(ConfigError, match="around the photographs"):
        run(place, place.folder)
    (place.out / "rows.jsonl").write_text("something else\n")
    with pytest.raises(ConfigError, match="does not hold the rows"):
        run(place)


def test_two_runs_do_not_write_to_one_folder(place: SimpleNamespace) -> None:
    running = run_batch(place.folder, place.out, settings=place.settings)
    with closing(running):
        next(running)
        with pytest.raises(ConfigError, match="Another run"):
            run(place)


def batch(place: SimpleNamespace, *arguments: object, code: int) -> Any:
    done = CliRunner().invoke(
        app, ["batch", *map(str, arguments), "--json", "--plugins-dir",
              str(place.settings.plugins_dir)],
        env={"FOVEA_PLUGINS": "brightness", "FOVEA_DATA_DIR": str(place.settings.data_dir)},
        catch_exceptions=False,
    )  # fmt: skip
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if code != 2 else done.output


def test_command_counts_and_says_that_some_failed(place: SimpleNamespace) -> None:
    counts = batch(place, place.folder, "--out", place.out, code=3)
    assert counts == {"ok": 4, "partial": 0, "failed": 1, "from_earlier_runs": 0}
    assert "spark" in batch(place, place.folder, "--out", place.out, "--runner", "spark", code=2)
    (place.folder / "notes.txt").unlink()
    counts = batch(place, place.folder, "--out", place.out, code=0)
    assert counts == {"ok": 4, "partial": 0, "failed": 0, "from_earlier_runs": 4}


def test_without_ray_the_way_to_get_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ConfigError, match=r"fovea-assistant\[ray\]"):
        next(work_through([1], None, runner="ray"))  # type: ignore[arg-type]


def test_similar_cases_are_told_with_what_both_were_measured_for(
    place: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fovea.differences.COMPARED", ("brightness_value",))
    run(place)
    settings = place.settings.model_copy(update={"plugins": ("brightness", "find_similar_cases")})
    assistant = Assistant(settings)
    load = partial(load_encoder, settings, "find_similar_cases")
    recipe = Embedding(load()[0].encoder_id, load, settings)
    measured = measured_in_batch(place.out)
    list(index_folder(assistant.archive, recipe, folder=place.folder))
    for _ in range(2):  # values can be added later, and adding them again changes nothing
        events = list(
            index_folder(assistant.archive, recipe, folder=place.folder, measured=measured)
        )
    assert Counter(e.outcome for e in events) == {"already_there": 4, "failed": 1}
    assert assistant.archive.verify() == []

    def similar(first: tuple[str, ...]) -> tuple[Neighbour, ...]:
        session = assistant.store.create()
        session.add_image(place.folder / "eye0.png")
        bench = assistant.workbench(session)
        for tool in first:
            finished(bench.run(tool, {}, ("img1",)))
        found = finished(bench.run("find_similar_cases", {"k": 5}, ("img1",))).result.similar
        assistant.archive.remove(found[-1].case_id)
        pictures = compared_pictures(session, assistant.archive.thumbnail)
        assert set(pictures) == {"img1", *(case.case_id for case in found[:-1])}
        assert all(jpeg.startswith(b"\xff\xd8\xff") for jpeg in pictures.values())
        return found

    files = {e.case_id: e.file for e in events if e.case_id}
    found = similar(("brightness",))
    assert {files[case.case_id] for case in found} == set(place.means) - {"eye0.png"}
    assert len(found) == 3
    for case in found:
        [difference] = case.differences
        assert (difference.name, difference.unit) == ("brightness_value", "1")
        assert difference.here == pytest.approx(place.means["eye0.png"])
        assert difference.there == pytest.approx(place.means[files[case.case_id]])
    assert all(not case.differences for case in similar(())), "not measured: nothing is made up"
    manifest = place.settings.plugins_dir / "brightness" / "plugin.toml"
    manifest.write_text(manifest.read_text().replace('version = "1.0.0"', 'version = "1.0.1"'))
    assistant.archive.close()
    assistant = Assistant(settings)
    other = similar(("brightness",))
    assert all(not case.differences for case in other), "values of another version"
    with pytest.raises(ConfigError, match="does not hold the rows"):
        measured_in_batch(tmp_path)


# --- on a cluster ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray cluster of two workers on this machine."""
    ray = pytest.importorskip("ray", reason="Ray is not installed (extra `ray`)")
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
        logging_level="ERROR", _node_ip_address="127.0.0.1",
    )  # fmt: skip
    yield ray
    ray.shutdown()


def test_a_killed_worker_loses_nothing_and_tables_are_the_same(
    place: SimpleNamespace, tmp_path: Path, cluster: Any
) -> None:
    (place.room / "kill_once").write_text(digest_of(place.folder / "eye3.png"))
    events = run(place, tmp_path / "ray", runner="ray", workers=2)
    assert sorted(event.file for event in events) == sorted([*place.means, "notes.txt"])
    assert not (place.room / "kill_once").exists()
    assert calls(place) == Counter([*place.means, "eye3.png"])
    run(place)
    assert tables(tmp_path / "ray") == tables(place.out)


def test_interrupted_on_a_cluster_with_a_photograph_that_kills_every_worker(
    place: SimpleNamespace, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fovea.workers.TRIES_AFTER_A_LOSS", 1)
    (place.room / "kill_always").write_text(digest_of(place.folder / "eye3.png"))
    running = run_batch(place.folder, place.out, settings=place.settings, runner="ray")
    with closing(running):
        next(running)
    [first] = table(place.out / "results.csv")
    run(place, runner="ray", workers=1)
    rows = {row["file"]: row["status"] for row in table(place.out / "results.csv")}
    assert rows == dict.fromkeys(place.means, "ok") | {"eye3.png": "failed", "notes.txt": "failed"}
    assert {row["error"] for row in table(place.out / "errors.csv")} == {
        "WorkerLost", "UnreadableImage",
    }  # fmt: skip
    made = calls(place)
    assert made[first["file"]] == 1
    assert made["eye3.png"] == 2
    (place.room / "kill_always").unlink()
    assert [e.file for e in run(place) if not e.kept] == ["eye3.png"]


def test_a_cluster_fills_the_archive_as_one_process_does(tmp_path: Path, cluster: Any) -> None:
    folder = tmp_path / "cases"
    make_eyes(folder, 3)
    shutil.copyfile(folder / "eye0.png", folder / "copy.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    metadata = tmp_path / "cases.csv"
    metadata.write_text("file,patient,labels\ncopy.png,p0,drusen\neye0.png,p0,drusen\n")
    found, outcomes = [], []
    for runner in ("local", "ray"):
        settings = Settings(data_dir=tmp_path / runner, plugins=("find_similar_cases",))
        load = partial(load_encoder, settings, "find_similar_cases")
        recipe = Embedding(load()[0].encoder_id, load, settings)
        with closing(CaseArchive.open(tmp_path / runner / "archive")) as archive:
            how: Any = {
                "folder": folder, "metadata_csv": metadata, "runner": runner, "workers": 1,
            }  # fmt: skip
            events = list(index_folder(archive, recipe, **how))
            outcomes.append({event.file: event.outcome for event in events})
            again = list(index_folder(archive, recipe, **how))
            kept = {event.file: event.outcome for event in again}
            assert {kept[f] for f in kept if f != "broken.jpg"} == {"already_there"}
            vector = np.ones(128, np.float32)
            cases = archive.search(recipe.encoder_id, vector, 5)
            found.append([(c.sha256, c.labels, c.vector.tobytes()) for c in cases])
    assert outcomes[0] == outcomes[1]
    assert Counter(outcomes[0].values()) == {"added": 3, "already_there": 1, "failed": 1}
    assert found[0] == found[1]
    assert len(found[0]) == 3
