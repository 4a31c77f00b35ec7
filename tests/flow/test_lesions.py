"""Whole conversations about lesions on a real photograph, and on it with lesions painted in."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from fovea.assistant import Assistant
from fovea.contract import read_mask
from fovea.discovery import Entry
from fovea.errors import PluginUnavailable
from fovea.events import Answered, Called, CallProgress, Event, Refused
from fovea.manifest import read_manifest
from fovea.registry import Registry, verify_weights
from fovea.session import Session
from fovea.settings import Settings
from fovea_plugins.segmenter import lesions

TOOL = "segment_lesions"


@pytest.fixture(scope="module")
def assistant(tmp_path_factory: pytest.TempPathFactory) -> Assistant:
    return Assistant(Settings(data_dir=tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def painted(retina_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample photograph with 6 dark red blots and 12 yellow spots painted in."""
    picture = cv2.imread(str(retina_path)).astype(np.float32)
    size = picture.shape[0]
    rng = np.random.default_rng(1)
    for colour, count, radius in (((25, 25, 95), 6, 14), ((120, 215, 250), 12, 7)):
        mask = np.zeros(picture.shape[:2], np.float32)
        for _ in range(count):
            x, y = (0.5 + rng.uniform(-0.22, 0.22, 2)) * size
            cv2.circle(mask, (int(x), int(y)), radius, 1.0, -1)
        mask = cv2.GaussianBlur(mask, (0, 0), 1.5)[..., None]
        picture = picture * (1 - 0.85 * mask) + np.array(colour, np.float32) * 0.85 * mask
    path = tmp_path_factory.mktemp("painted") / "painted.png"
    cv2.imwrite(str(path), picture.round().astype(np.uint8))
    return path


def begin(assistant: Assistant, path: Path) -> Session:
    session = assistant.store.create()
    session.add_image(path)
    return session


def turn(assistant: Assistant, session: Session, question: str) -> tuple[str, list[Event]]:
    events = list(assistant.turn(session, question))
    last = events[-1]
    assert isinstance(last, Answered)
    assert last.struck == (), last.struck
    return last.text, events


def test_a_conversation_about_painted_lesions(assistant: Assistant, painted: Path) -> None:
    session = begin(assistant, painted)
    text, events = turn(assistant, session, "Are there any haemorrhages?")
    called = [e.evidence for e in events if isinstance(e, Called) and e.evidence.tool == TOOL]
    assert len(called) == 1
    result = called[0].result
    assert f"[{called[0].id}]" in text
    assert "aemorrhages are present" in text
    said = [e.text for e in events if isinstance(e, CallProgress)]
    assert sum("Looking for lesions" in line for line in said) == len(
        assistant.registry.manifest(TOOL).weights
    )
    red, yellow = (result.measurement(f"{s}_count").value for s in ("haemorrhage", "hard_exudate"))
    assert 3 <= red <= 12
    assert 6 <= yellow <= 24
    text, events = turn(assistant, session, "How far are the exudates from the fovea?")
    assert all(e.reused for e in events if isinstance(e, Called) and e.evidence.tool == TOOL)
    distance = result.measurement("hard_exudate_fovea_distance")
    if distance is None:
        assert "could not be measured" in text
    else:
        assert f"{distance.value:.2f} disc diameters" in text
    text, _ = turn(assistant, session, "How many haemorrhages per quadrant?")
    assert "superotemporal" in text
    turn(assistant, session, "Write the report.")
    report = (session.folder / "R1.md").read_text()
    assert "number of haemorrhages" in report
    assert "`retinal haemorrhage` is " in report


def test_a_healthy_looking_eye_is_never_declared_free_of_lesions(
    assistant: Assistant, retina_path: Path
) -> None:
    session = begin(assistant, retina_path)
    text, _ = turn(assistant, session, "Are there any lesions?")
    lowered = text.lower()
    for word in ("no lesions", "normal", "healthy", "absent"):
        assert word not in lowered
    assert "does not rule out disease" in text
    turn(assistant, session, "Draft a report.")
    report = (session.folder / "R1.md").read_text()
    assert "is absent" not in report.partition("Lesions")[2].partition("Biomarkers")[0]


def test_analysis_writes_masks_in_the_frame_of_the_photograph(
    assistant: Assistant, painted: Path, tmp_path: Path
) -> None:
    from fovea.export import write_analysis

    analysis = assistant.analyse(painted, only=(TOOL,))
    write_analysis(analysis, tmp_path / "out")
    shape = cv2.imread(str(painted)).shape[:2]
    for name in ("microaneurysms", "haemorrhages", "hard_exudates", "soft_exudates"):
        assert read_mask(tmp_path / "out" / f"{name}.png").shape == shape
    assert (tmp_path / "out" / "lesions.csv").is_file()


def test_a_blank_picture_is_refused(assistant: Assistant, tmp_path: Path) -> None:
    path = tmp_path / "blank.png"
    cv2.imwrite(str(path), np.zeros((600, 600), np.uint8))
    text, events = turn(assistant, begin(assistant, path), "Count the microaneurysms.")
    refused = [e for e in events if isinstance(e, Refused) and e.tool == TOOL]
    assert [e.error for e in refused] == ["NotApplicable"]
    assert "number of" not in text


def test_a_grey_picture_is_answered_with_its_limits(
    assistant: Assistant, retina_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "grey.png"
    cv2.imwrite(str(path), cv2.imread(str(retina_path))[..., 1])
    _, events = turn(assistant, begin(assistant, path), "Count the hard exudates.")
    made = [e.evidence for e in events if isinstance(e, Called) and e.evidence.tool == TOOL]
    refused = [e for e in events if isinstance(e, Refused) and e.tool == TOOL]
    assert bool(made) != bool(refused)  # the gate may find a grey picture too poor
    for evidence in made:
        assert "grey_picture" in {caveat.code for caveat in evidence.result.caveats}


@pytest.mark.parametrize("change", ["altered", "missing"])
def test_altered_or_missing_weights_are_refused(tmp_path: Path, change: str) -> None:
    source = Path(lesions.__file__).parent
    folder = tmp_path / "lesions"
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("__pycache__"))
    manifest = read_manifest(folder / "plugin.toml")
    file = folder / manifest.weights[-1].file
    if change == "altered":
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(bytes(content))
    else:
        file.unlink()
    entry = Entry(manifest, folder, "copied", "copied")
    with pytest.raises(PluginUnavailable, match="weight file"):
        verify_weights(entry)
    assert Registry({TOOL: entry}, ()).health(TOOL).ok == (change == "altered")
