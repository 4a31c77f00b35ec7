"""Gate, prerequisites, reuse and evidence, with small plugins written for the purpose."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plugin_maker import make_plugin

from fovea import errors
from fovea.archive import CaseArchive
from fovea.events import Called, CallStarted, Event, Refused
from fovea.evidence import Evidence
from fovea.knowledge import load
from fovea.registry import Registry
from fovea.services import Archive
from fovea.session import Session, SessionStore
from fovea.settings import Settings
from fovea.workbench import Workbench


@pytest.fixture
def session(settings: Settings, retina_path: Path) -> Session:
    session = SessionStore(settings).create()
    session.add_image(retina_path)
    return session


def damaged() -> Archive:
    raise errors.ArchiveError("It cannot be used", where="archive", fix="Restore a snapshot")


def bench(session: Session, plugins: Path) -> Workbench:
    registry = Registry.discover(Settings(plugins_dir=plugins))
    archive = CaseArchive.open(session.settings.data_dir / "archive")
    return Workbench(session, registry, load(None), open_archive=lambda: archive)


def run(running: Generator[Event, None, Evidence]) -> tuple[list[Event], Evidence]:
    events: list[Event] = []
    while True:
        try:
            events.append(next(running))
        except StopIteration as ended:
            return events, ended.value


def test_quality_is_assessed_before_anything_else(session: Session, plugins: Path) -> None:
    make_plugin(plugins, "simple")
    events, evidence = run(bench(session, plugins).run("simple", {}, ("img1",)))
    assert [e.tool for e in events if isinstance(e, CallStarted)] == ["simple", "assess_quality"]
    gate = next(e for e in session.evidence.values() if e.tool == "assess_quality")
    assert evidence.provenance.used == (gate.id,)
    assert evidence.provenance.image_sha256 == (session.images["img1"].sha256,)


def test_a_picture_that_is_no_fundus_is_refused_with_the_reason(
    session: Session, plugins: Path, tmp_path: Path
) -> None:
    path = tmp_path / "noise.png"
    noise = np.random.default_rng(1).integers(0, 255, (400, 600, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    handle = session.add_image(path).handle
    with pytest.raises(errors.NotApplicable, match="retinal photograph"):
        run(bench(session, plugins).run("segment_vessels", {}, (handle,)))


def test_needed_outputs_are_made_first_and_reused(session: Session, plugins: Path) -> None:
    make_plugin(
        plugins,
        "first",
        "return result(value(0.4), artifacts=(context.save_mask('first_mask', "
        "np.ones((context.image.height, context.image.width), bool)),))",
    )
    make_plugin(
        plugins,
        "second",
        "assert context.mask('first_mask').all()\nreturn result(value(0.6))",
        inputs='needs = ["first_mask"]',
    )
    work = bench(session, plugins)
    events, _ = run(work.run("second", {}, ("img1",)))
    started = [e.tool for e in events if isinstance(e, CallStarted)]
    assert started.index("first") > started.index("second")
    again, evidence = run(work.run("second", {}, ("img1",)))
    assert [type(e) for e in again] == [CallStarted, Called]
    assert isinstance(again[1], Called)
    assert again[1].reused
    _, first = run(work.run("first", {}, ("img1",)))
    assert first.id in evidence.provenance.used


def test_a_missing_prerequisite_is_named(session: Session, plugins: Path) -> None:
    make_plugin(plugins, "needy", inputs='needs = ["unheard_of"]')
    with pytest.raises(errors.NotApplicable, match="unheard_of"):
        run(bench(session, plugins).run("needy", {}, ("img1",)))


def test_useful_outputs_may_be_missing(session: Session, plugins: Path) -> None:
    make_plugin(plugins, "broken", "raise NotApplicable('broken', 'Cannot do this one')")
    make_plugin(plugins, "modest", inputs='uses = ["broken_value"]')
    events, evidence = run(bench(session, plugins).run("modest", {}, ("img1",)))
    assert evidence.result.measurements[0].value == 0.5
    assert any(isinstance(e, Refused) and e.tool == "broken" for e in events)


def test_a_definite_refusal_is_not_tried_twice(session: Session, plugins: Path) -> None:
    make_plugin(
        plugins,
        "picky",
        "P.count = getattr(P, 'count', 0) + 1\nassert P.count == 1\n"
        "raise NotApplicable('picky', 'No disc in the field')",
    )
    work = bench(session, plugins)
    for _ in range(2):
        with pytest.raises(errors.NotApplicable, match="No disc in the field"):
            run(work.run("picky", {}, ("img1",)))


def test_a_session_reopens_with_evidence_and_images(session: Session, plugins: Path) -> None:
    make_plugin(plugins, "simple")
    _, evidence = run(bench(session, plugins).run("simple", {}, ("img1",)))
    session.save()
    again = Session.reopen(session.folder, session.settings)
    assert again.evidence[evidence.id].result == evidence.result
    assert again.photograph("img1").sha256 == session.images["img1"].sha256
    assert again.next_evidence_id() == session.next_evidence_id()


def test_a_damaged_session_is_refused_and_left_in_place(session: Session) -> None:
    (session.folder / "session.json").write_text("{ not json")
    with pytest.raises(errors.SessionError, match="damaged"):
        Session.reopen(session.folder, session.settings)
    assert (session.folder / "session.json").exists()


def test_a_photograph_that_was_changed_on_disk_is_refused(session: Session) -> None:
    session.save()
    stored = next(session.folder.glob("img1.*"))
    pixels = np.array(Image.open(stored))
    Image.fromarray(pixels[:, ::-1]).save(stored)
    again = Session.reopen(session.folder, session.settings)
    with pytest.raises(errors.SessionError, match="changed on disk"):
        again.photograph("img1")


def test_a_session_file_cannot_point_outside_its_folder(session: Session, plugins: Path) -> None:
    make_plugin(plugins, "masking", "return result(artifacts=(context.save_mask("
                "'masking_mask', context.image.field_of_view),))")  # fmt: skip
    run(bench(session, plugins).run("masking", {}, ("img1",)))
    session.save()
    saved = session.folder / "session.json"
    state = json.loads(saved.read_text())
    state["evidence"][-1]["result"]["artifacts"][0]["path"] = "../../elsewhere.png"
    saved.write_text(json.dumps(state))
    with pytest.raises(errors.SessionError, match="damaged"):
        Session.reopen(session.folder, session.settings)


def test_a_full_disk_does_not_lock_the_session(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(session, "save", full)
    for _ in range(2):
        with pytest.raises(OSError, match="No space"), session.turn():
            pass


def test_uploads_keep_none_of_their_names(session: Session, retina_path: Path) -> None:
    session.save()
    stored = json.dumps(json.loads((session.folder / "session.json").read_text()))
    assert retina_path.stem not in stored
    assert {p.name for p in session.folder.iterdir()} >= {"img1.png", "session.json"}
    assert session.folder.stat().st_mode & 0o077 == 0


def test_naming_the_eye_drops_what_was_said_under_the_other(
    session: Session, plugins: Path
) -> None:
    make_plugin(plugins, "simple")
    run(bench(session, plugins).run("simple", {}, ("img1",)))
    session.label_eye("img1", "OS")
    assert session.evidence == {}
    assert session.photograph("img1").eye == "OS"
    session.save()
    assert Session.reopen(session.folder, session.settings).photograph("img1").eye == "OS"


@pytest.mark.parametrize("name", ["../../etc", "", "0" * 31, "G" * 32])
def test_only_real_session_ids_are_looked_up(settings: Settings, name: str) -> None:
    with pytest.raises(errors.SessionError):
        SessionStore(settings).get(name)


def test_old_sessions_are_swept(settings: Settings) -> None:
    import os

    store = SessionStore(settings)
    old, new = store.create(), store.create()
    os.utime(old.folder / "session.json", (0, 0))
    assert store.sweep() == 1
    assert not old.folder.exists()
    assert new.folder.exists()


def test_answers_from_the_archive_are_made_anew(session: Session, plugins: Path) -> None:
    make_plugin(plugins, "search_tool", inputs='services = ["archive"]')
    work = bench(session, plugins)
    for _ in range(2):
        events, _evidence = run(work.run("search_tool", {}, ("img1",)))
        called = [e for e in events if isinstance(e, Called) and e.evidence.tool == "search_tool"]
        assert [e.reused for e in called] == [False]


def test_a_prerequisite_that_failed_once_may_be_tried_again(
    session: Session, plugins: Path
) -> None:
    make_plugin(
        plugins,
        "first",
        "P.count = getattr(P, 'count', 0) + 1\nif P.count == 1:\n    raise RuntimeError('once')\n"
        "return result(value(0.4))",
    )
    make_plugin(plugins, "second", inputs='needs = ["first_value"]')
    work = bench(session, plugins)
    with pytest.raises(errors.PluginFailed, match="first_value"):
        run(work.run("second", {}, ("img1",)))
    _, evidence = run(work.run("second", {}, ("img1",)))
    assert evidence.result.measurements[0].value == 0.5


def test_a_damaged_archive_bars_the_tool_that_needs_it_and_no_other(
    session: Session, plugins: Path
) -> None:
    running = replace(bench(session, plugins), open_archive=damaged)
    with pytest.raises(errors.PluginUnavailable, match="Restore a snapshot"):
        run(running.run("find_similar_cases", {}, ("img1",)))
    _, evidence = run(running.run("assess_quality", {}, ("img1",)))
    assert evidence.tool == "assess_quality"
