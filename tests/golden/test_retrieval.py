"""`find_similar_cases` by relation: an altered copy is nearest, an empty archive says so."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import fovea_plugins.retrieval
from fovea.archive import CaseArchive, Label, NewCase
from fovea.archive.records import thumbnail_of
from fovea.contract import Context, Result
from fovea.errors import BadArguments, NotApplicable, PluginUnavailable
from fovea.image import Photograph, find_field_of_view
from fovea.manifest import read_manifest
from fovea_plugins.retrieval.plugin import SimilarArgs, SimilarCases, _interval

FOLDER = Path(fovea_plugins.retrieval.__file__).parent


def photograph(pixels: np.ndarray) -> Photograph:
    mask, circle = find_field_of_view(pixels)
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    return Photograph("img1", pixels, mask, circle, digest, "PNG", False)


@pytest.fixture(scope="module")
def retina(retina_path: Path) -> np.ndarray:
    pixels = cv2.cvtColor(cv2.imread(str(retina_path)), cv2.COLOR_BGR2RGB)
    return cv2.resize(pixels, (600, 600), interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="module")
def plugin() -> Iterator[SimilarCases]:
    made = SimilarCases(read_manifest(FOLDER / "plugin.toml"), FOLDER)
    made.load("cpu")
    yield made
    made.unload()


@pytest.fixture
def archive(tmp_path: Path) -> CaseArchive:
    return CaseArchive.open(tmp_path / "archive")


@pytest.fixture(scope="module")
def pictures(retina: np.ndarray) -> dict[str, np.ndarray]:
    """The retina as other eyes might look: turned, hazy, bleeding, exudative, pale, zoomed."""
    inside = find_field_of_view(retina)[0]
    rng = np.random.default_rng(3)
    spots = {}
    for name, colour, radii in (
        ("bleeding", (90, 20, 10), (3, 9)),
        ("exudative", (235, 220, 150), (2, 6)),
    ):
        picture = retina.copy()
        for x, y in rng.integers(150, 450, (60, 2)):
            cv2.circle(picture, (int(x), int(y)), int(rng.integers(*radii)), colour, -1)
        spots[name] = picture
    haze = cv2.GaussianBlur(retina, (0, 0), 7)
    pale = np.clip(retina.astype(np.float32) * (0.9, 1.3, 1.5) + 15, 0, 255).astype(np.uint8)
    zoomed = cv2.resize(retina[120:480, 120:480], (600, 600), interpolation=cv2.INTER_CUBIC)
    hidden = {"hazy": haze, "pale": pale, "zoomed": zoomed, **spots}
    seen = {name: np.where(inside[:, :, None], p, np.uint8(0)) for name, p in hidden.items()}
    return {"plain": retina, "turned": np.ascontiguousarray(np.rot90(retina)), **seen}


def fill(archive: CaseArchive, plugin: SimilarCases, pictures: dict[str, np.ndarray]) -> None:
    for name, pixels in pictures.items():
        image = photograph(pixels)
        archive.add(
            NewCase(
                image.sha256,
                plugin.encoder_id,
                plugin.embed(image),
                thumbnail_of(image),
                labels=(Label(name, "test"),),
            )
        )


def ask(
    plugin: SimilarCases,
    archive: CaseArchive | None,
    pixels: np.ndarray,
    tmp_path: Path,
    k: int = 5,
) -> Result:
    context = Context(images=(photograph(pixels),), work_dir=tmp_path, archive=archive)
    return plugin.run(context, SimilarArgs(k=k))


@pytest.fixture(scope="module")
def seven(
    plugin: SimilarCases, pictures: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> CaseArchive:
    """An archive of all the variants, for tests that only read it."""
    made = CaseArchive.open(tmp_path_factory.mktemp("seven"))
    fill(made, plugin, pictures)
    return made


def codes(result: Result) -> set[str]:
    return {caveat.code for caveat in result.caveats}


def test_weights_are_those_of_the_manifest() -> None:
    [weights] = read_manifest(FOLDER / "plugin.toml").weights
    content = (FOLDER / weights.file).read_bytes()
    assert hashlib.sha256(content).hexdigest() == weights.sha256
    assert len(content) == weights.bytes < 1_000_000


def slightly_altered(pixels: np.ndarray) -> np.ndarray:
    """Another exposure of the same scene: smaller, brighter, recompressed, a little noise."""
    small = cv2.resize(pixels, (480, 480), interpolation=cv2.INTER_AREA).astype(np.float32)
    noisy = small * 1.06 + np.random.default_rng(1).normal(0, 2, small.shape)
    inside = find_field_of_view(cv2.resize(pixels, (480, 480)))[0]
    bright = np.clip(np.where(inside[:, :, None], noisy, 0), 0, 255).astype(np.uint8)
    done, jpeg = cv2.imencode(".jpg", bright[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    assert done
    return np.ascontiguousarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[:, :, ::-1])


@pytest.mark.parametrize(
    "name", ["plain", "turned", "hazy", "bleeding", "exudative", "pale", "zoomed"]
)
def test_slightly_altered_copy_is_nearest(
    pictures: dict[str, np.ndarray],
    plugin: SimilarCases,
    seven: CaseArchive,
    tmp_path: Path,
    name: str,
) -> None:
    result = ask(plugin, seven, slightly_altered(pictures[name]), tmp_path, k=3)
    first, second = result.similar[:2]
    assert first.labels == (name,)
    assert first.closeness_percentile >= second.closeness_percentile
    assert first.closeness_percentile > 99
    assert "not_similar_enough" not in codes(result)
    assert first.why.startswith("Alike in ")
    assert "small_archive" in codes(result), "21 pairs cannot say what is near"


def test_photograph_itself_is_never_its_own_neighbour(
    retina: np.ndarray, plugin: SimilarCases, seven: CaseArchive, tmp_path: Path
) -> None:
    result = ask(plugin, seven, retina, tmp_path, k=20)
    assert len(result.similar) == 6
    assert ("plain",) not in {case.labels for case in result.similar}
    assert [case.rank for case in result.similar] == [1, 2, 3, 4, 5, 6]


def test_vector_is_of_unit_length_repeatable_and_blind_to_the_side(
    retina: np.ndarray, plugin: SimilarCases
) -> None:
    vector = plugin.embed(photograph(retina))
    assert (vector.shape, vector.dtype) == ((128,), np.float32)
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_array_equal(vector, plugin.embed(photograph(retina)))
    mirrored = plugin.embed(photograph(np.ascontiguousarray(retina[:, ::-1])))
    turned = plugin.embed(photograph(np.ascontiguousarray(np.rot90(retina))))
    assert 1 - vector @ mirrored < 0.1 * (1 - vector @ turned)


def test_more_haze_is_further_away(retina: np.ndarray, plugin: SimilarCases) -> None:
    inside = find_field_of_view(retina)[0]
    origin = plugin.embed(photograph(retina))
    distances = []
    for sigma in (1, 3, 9):
        hazy = np.where(inside[:, :, None], cv2.GaussianBlur(retina, (0, 0), sigma), np.uint8(0))
        distances.append(1 - float(origin @ plugin.embed(photograph(hazy))))
    assert distances == sorted(distances)


def test_empty_archive_says_how_to_fill_it(
    retina: np.ndarray, plugin: SimilarCases, archive: CaseArchive, tmp_path: Path
) -> None:
    result = ask(plugin, archive, retina, tmp_path)
    assert result.similar == ()
    assert codes(result) == {"archive_empty"}
    assert "fovea index add FOLDER" in result.summary


def test_archive_of_the_same_patient_only(
    retina: np.ndarray, plugin: SimilarCases, archive: CaseArchive, tmp_path: Path
) -> None:
    fill(archive, plugin, {"plain": retina})
    result = ask(plugin, archive, retina, tmp_path)
    assert result.similar == ()
    assert codes(result) == {"no_other_patient"}


def test_vectors_of_another_encoder_do_not_count(
    retina: np.ndarray, plugin: SimilarCases, archive: CaseArchive, tmp_path: Path
) -> None:
    image = photograph(retina)
    archive.add(NewCase(image.sha256, "another", np.ones(128, np.float32), thumbnail_of(image)))
    result = ask(plugin, archive, retina, tmp_path)
    assert codes(result) == {"other_encoder"}
    assert "another encoder (another)" in result.summary
    assert "fovea index add FOLDER" in result.summary


def test_nothing_alike_is_said_to_be_not_similar_enough(
    retina: np.ndarray, plugin: SimilarCases, archive: CaseArchive, tmp_path: Path
) -> None:
    inside = find_field_of_view(retina)[0]
    noise = np.random.default_rng(0).integers(0, 255, (600, 600, 3), dtype=np.uint8)
    fill(archive, plugin, {"noise": np.where(inside[:, :, None], noise, np.uint8(0))})
    result = ask(plugin, archive, retina, tmp_path)
    assert "not_similar_enough" in codes(result)
    assert result.summary.startswith("No similar case")
    assert "noise" not in result.summary, "labels of unlike cases must not suggest anything"


def test_summary_gives_the_label_distribution_within_its_limit(
    retina: np.ndarray, plugin: SimilarCases, archive: CaseArchive, tmp_path: Path
) -> None:
    image = photograph(retina)
    vector = plugin.embed(image)
    for number in range(20):
        labels = tuple(Label(f"rare condition {number} {i} with a long name", "t") for i in (1, 2))
        shared = (Label("glaucoma", "t"),) if number < 12 else ()
        case = NewCase(f"{number:064x}", plugin.encoder_id, vector, thumbnail_of(image))
        archive.add(replace(case, labels=labels + shared))
    result = ask(plugin, archive, retina, tmp_path, k=20)
    assert "glaucoma 12 of 20 (39 to 78 %)" in result.summary
    assert len(result.summary) <= 400
    assert result.summary.endswith("Likeness is no diagnosis.")


@pytest.mark.parametrize("k", [0, 21])
def test_k_has_bounds(k: int) -> None:
    with pytest.raises(ValueError):
        SimilarArgs(k=k)


def test_missing_service_and_missing_weights_are_told(retina: np.ndarray, tmp_path: Path) -> None:
    made = SimilarCases(read_manifest(FOLDER / "plugin.toml"), FOLDER)
    with pytest.raises(PluginUnavailable, match="archive is not open"):
        ask(made, None, retina, tmp_path)
    with pytest.raises(PluginUnavailable, match="not loaded"):
        made.embed(photograph(retina))


@pytest.mark.parametrize("level", [0, 128, 255])
def test_blank_picture_gives_a_vector_or_a_reason(plugin: SimilarCases, level: int) -> None:
    try:
        vector = plugin.embed(photograph(np.full((300, 300, 3), level, np.uint8)))
    except (NotApplicable, BadArguments):
        return
    assert np.isfinite(vector).all()


def test_filters_are_arguments(
    retina: np.ndarray, plugin: SimilarCases, archive: CaseArchive, tmp_path: Path
) -> None:
    image = photograph(retina)
    vector = plugin.embed(image)
    for number, (eye, label) in enumerate((("OD", "glaucoma"), ("OS", "glaucoma"), ("OS", "amd"))):
        case = NewCase(f"{number:064x}", plugin.encoder_id, vector, thumbnail_of(image))
        archive.add(replace(case, eye=eye, labels=(Label(label, "t"),), patient_id=f"p{number}"))

    def found(**arguments: object) -> list[str]:
        context = Context(images=(image,), work_dir=tmp_path, archive=archive)
        result = plugin.run(context, SimilarArgs(**arguments))  # type: ignore[arg-type]
        return [case.case_id for case in result.similar] or sorted(codes(result))

    assert found(eye="OS") == ["C000002", "C000003"]
    assert found(label="glaucoma") == ["C000001", "C000002"]
    assert found(eye="OD", label="amd") == ["none_fits"]


@pytest.mark.parametrize(
    ("count", "total", "said"), [(0, 5, "0 to 43 %"), (3, 5, "23 to 88 %"), (20, 20, "84 to 100 %")]
)
def test_interval_of_a_share_is_wilsons(count: int, total: int, said: str) -> None:
    assert _interval(count, total) == said
