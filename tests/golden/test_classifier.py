"""`classify_disease` and `explain_prediction` with the shipped weights."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from fovea.check_result import check_result
from fovea.contract import Context, Finding, Measurement, Result
from fovea.errors import NotApplicable, PluginUnavailable
from fovea.image import Photograph, open_photograph
from fovea.manifest import read_manifest
from fovea_plugins import classifier, explainer
from fovea_plugins.classifier import shipped
from fovea_plugins.classifier.evidence import LESIONS
from fovea_plugins.classifier.plugin import ClassifyDisease, GradeArgs
from fovea_plugins.classifier.reading import ClassifierReader
from fovea_plugins.classifier.targets import REFERABLE, TARGETS
from fovea_plugins.explainer.plugin import ExplainPrediction, WhyArgs
from fovea_plugins.training.classifier_data import find_cases, read_photograph
from fovea_plugins.training.classifier_evidence import measured_with
from fovea_plugins.training.trainer import read_facts

FOLDER, WHY = Path(classifier.__file__).parent, Path(explainer.__file__).parent


@pytest.fixture(scope="module")
def plugin() -> ClassifyDisease:
    made = ClassifyDisease(read_manifest(FOLDER / "plugin.toml"), FOLDER)
    made.load("cpu")
    return made


@pytest.fixture(scope="module")
def why() -> ExplainPrediction:
    made = ExplainPrediction(read_manifest(WHY / "plugin.toml"), WHY)
    made.load("cpu")
    return made


@pytest.fixture(scope="module")
def retina(retina_path: Path) -> Photograph:
    return open_photograph(retina_path)


def gate(*, state: str = "present", value: str = "good") -> dict[str, Result]:
    findings = tuple(
        Finding(concept=f"gradable_{part}", state=state, detail="blurred")  # type: ignore[arg-type]
        for part in ("disc", "macula", "vessels")
    )
    result = Result(
        summary="Quality.",
        findings=(*findings, Finding(concept="quality", state="present", value=value)),
        measurements=(Measurement(name="quality_score", value=0.7, unit="1", method="made up"),),
    )
    return dict.fromkeys(("quality", "quality_score", *(f.concept for f in findings)), result)


def lesions(count: float) -> dict[str, Result]:
    numbers = [
        Measurement(name=f"{kind}_{what}", value=value, unit=unit, method="made up")
        for kind in LESIONS
        for what, value, unit in (("count", count, "1"), ("area_share", count / 100, "%"))
    ]
    if count:
        numbers.append(
            Measurement(
                name="hard_exudate_fovea_distance", value=0.5, unit="[DD]", method="made up"
            )
        )
    sure = 0.99 if count else 0.02
    found = [Finding(concept=kind, state="indeterminate", probability=sure) for kind in LESIONS]
    result = Result(summary="Lesions.", measurements=tuple(numbers), findings=tuple(found))
    return dict.fromkeys([m.name for m in numbers] + list(LESIONS), result)


def ask(
    plugin: Any, image: Photograph, folder: Path, earlier: dict[str, Result], **chosen: Any
) -> Result:
    context = Context((image,), folder, earlier, rng=np.random.default_rng(0))
    result = plugin.run(context, plugin.Args(**chosen))
    check_result(plugin.manifest, result, context)
    return result


# classify_disease ---------------------------------------------------------------------


def test_a_healthy_eye_is_not_referred(
    plugin: ClassifyDisease, retina: Photograph, tmp_path: Path
) -> None:
    result = ask(plugin, retina, tmp_path, gate() | lesions(0))
    referable = result.finding("referable_dr")
    assert referable
    assert referable.state != "present"
    assert referable.calibrated
    assert result.measurement("referable_dr_evidence_probability")
    grade = result.measurement("dr_grade")
    assert grade
    assert grade.interval
    assert grade.interval.low <= grade.value <= grade.interval.high
    assert grade.interval.level == pytest.approx(0.9)


def test_lesions_raise_the_second_opinion_only(
    plugin: ClassifyDisease, retina: Photograph, tmp_path: Path
) -> None:
    few = ask(plugin, retina, tmp_path, gate() | lesions(0))
    many = ask(plugin, retina, tmp_path, gate() | lesions(40))

    def value(result: Result, kind: str) -> float:
        found = result.measurement(f"referable_dr_{kind}probability")
        assert found
        return found.value

    assert value(many, "network_") == value(few, "network_")
    assert value(many, "evidence_") > value(few, "evidence_") + 0.3
    assert value(many, "") > value(few, "")
    codes = {caveat.code for caveat in many.caveats}
    assert "opinions_disagree" in codes, "a clean picture with forty lesions is a contradiction"


def test_an_ungradable_photograph_gets_no_grade(
    plugin: ClassifyDisease, retina: Photograph, tmp_path: Path
) -> None:
    result = ask(plugin, retina, tmp_path, gate(state="absent", value="reject"))
    assert not result.measurements
    assert {gap.name for gap in result.not_measured} >= {"dr_grade", "referable_dr_probability"}
    judged = {f.concept for f in result.findings if f.state != "not_assessable"}
    assert judged == {"media_opacity"}, "cataract is a reason for a bad photograph"
    assert result.summary.startswith("No grade")


def test_without_other_tools_there_is_one_opinion(
    plugin: ClassifyDisease, retina: Photograph, tmp_path: Path
) -> None:
    result = ask(plugin, retina, tmp_path, {})
    assert "one_opinion" in {caveat.code for caveat in result.caveats}
    assert [gap.name for gap in result.not_measured] == ["referable_dr_evidence_probability"]


def test_operating_points_are_printed_and_ordered(
    plugin: ClassifyDisease, retina: Photograph, tmp_path: Path
) -> None:
    cuts = []
    for point in ("high_sensitivity", "balanced", "high_specificity"):
        result = ask(plugin, retina, tmp_path, gate(), operating_point=point)
        finding = result.finding("referable_dr")
        assert finding
        assert finding.threshold is not None
        assert point.replace("_", " ") in finding.detail
        assert point.replace("_", " ") in result.summary
        cuts.append(finding.threshold)
    assert cuts == sorted(cuts)


def test_nothing_is_called_present_below_one_half(
    plugin: ClassifyDisease, retina: Photograph, tmp_path: Path
) -> None:
    result = ask(plugin, retina, tmp_path, gate(), operating_point="high_sensitivity")
    for finding in result.findings:
        if finding.state == "present":
            assert finding.probability is not None
            assert finding.probability >= 0.5


def test_a_mirrored_eye_gets_the_same_answer(
    plugin: ClassifyDisease, retina: Photograph, tmp_path: Path
) -> None:
    path = tmp_path / "mirror.png"
    cv2.imwrite(str(path), cv2.cvtColor(retina.pixels[:, ::-1], cv2.COLOR_RGB2BGR))
    own = ask(plugin, retina, tmp_path, gate()).measurement("referable_dr_probability")
    other = ask(plugin, open_photograph(path), tmp_path, gate()).measurement(
        "referable_dr_probability"
    )
    assert own
    assert other
    assert own.value == pytest.approx(other.value, abs=0.05)


def test_stripes_are_unlike_the_training_photographs(
    plugin: ClassifyDisease, retina: Photograph, tmp_path: Path
) -> None:
    y, x = np.mgrid[:400, :400]
    inside = (x - 200) ** 2 + (y - 200) ** 2 < 190**2
    stripes = np.where((x // 10) % 2 == 0, 220, 30) * inside
    cv2.imwrite(str(tmp_path / "stripes.png"), np.repeat(stripes[..., None], 3, 2).astype(np.uint8))
    strange = ask(plugin, open_photograph(tmp_path / "stripes.png"), tmp_path, gate())
    assert "unlike_training" in {caveat.code for caveat in strange.caveats}
    usual = ask(plugin, retina, tmp_path, gate())
    assert "unlike_training" not in {caveat.code for caveat in usual.caveats}


def test_all_classes_within_a_second(
    plugin: ClassifyDisease, retina: Photograph, tmp_path: Path
) -> None:
    ask(plugin, retina, tmp_path, gate())
    started = time.process_time()
    ask(plugin, retina, tmp_path, gate())
    assert time.process_time() - started < 1.0


def test_it_must_be_loaded_first(retina: Photograph, tmp_path: Path) -> None:
    unloaded = ClassifyDisease(read_manifest(FOLDER / "plugin.toml"), FOLDER)
    with pytest.raises(PluginUnavailable, match="not loaded"):
        unloaded.run(Context((retina,), tmp_path), GradeArgs())


def test_the_second_stage_was_fitted_on_what_the_tools_measure_now() -> None:
    facts = read_facts(FOLDER / "weights/classifier.safetensors")
    assert facts["evidence"]["measured_with"] == measured_with(), (
        "the weights of a tool that measures evidence have changed: run "
        "`python -m fovea_plugins.training.classifier_evidence`, then fit again"
    )


def test_referable_retinopathy_is_told_on_validation_photographs(shared_data: Path) -> None:
    reader = ClassifierReader.read(FOLDER / "weights/classifier.safetensors")
    cases = [c for c in find_cases(shared_data / "IDRiD_grading") if c.use == "val"]
    column = TARGETS.index("dr_2")
    chances: dict[float, list[float]] = {0.0: [], 1.0: []}
    for case in cases[:24]:
        reading = reader.on_photograph(read_photograph(case.path))
        judged = reader.judge.judge(reading.logits.tolist(), {})
        chances[case.targets[column]].append(judged[REFERABLE].probability)
    pairs = [(a, b) for a in chances[1.0] for b in chances[0.0]]
    assert np.mean([a > b for a, b in pairs]) > 0.8, "all 77 gave the figure in the card"


# explain_prediction -------------------------------------------------------------------


@pytest.fixture
def with_lesions(retina: Photograph, tmp_path: Path) -> tuple[Photograph, dict[str, Result]]:
    """The sample with bright spots painted in, and the mask of them as a tool would give it."""
    rng = np.random.default_rng(1)
    pixels, mask = retina.pixels.copy(), np.zeros(retina.pixels.shape[:2], np.uint8)
    size = retina.field_circle.radius / 60
    for _ in range(14):
        angle, far = rng.uniform(0, 6.3), rng.uniform(0.1, 0.4) * retina.field_circle.radius
        middle = (
            int(retina.field_circle.x + far * np.cos(angle)),
            int(retina.field_circle.y + far * np.sin(angle)),
        )
        cv2.circle(mask, middle, int(size * rng.uniform(0.6, 1.6)), 255, -1)
    pixels[mask > 0] = (250, 235, 150)
    path = tmp_path / "spots.png"
    cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    cv2.imwrite(str(tmp_path / "hard_exudates.png"), mask)
    photograph = open_photograph(path)
    earlier = lesions(40)
    artifact = Context((photograph,), tmp_path).save_mask("hard_exudates", mask > 0)
    base = earlier["hard_exudate_count"]
    result = base.model_copy(update={"artifacts": (artifact,)})
    return photograph, gate() | dict.fromkeys(earlier, result) | {"hard_exudates": result}


def test_removing_exudates_lowers_the_answer_more_than_painting_elsewhere(
    why: ExplainPrediction, with_lesions: tuple[Photograph, dict[str, Result]], tmp_path: Path
) -> None:
    photograph, earlier = with_lesions
    result = ask(why, photograph, tmp_path, earlier)
    before = result.measurement("explained_probability")
    without = result.measurement("probability_without", zone="all_lesions")
    elsewhere = result.measurement("probability_without", zone="elsewhere")
    assert before
    assert without
    assert elsewhere
    assert before.value - without.value > abs(before.value - elsewhere.value)
    assert "Without the hard exudates" in result.summary
    rows = list(csv.DictReader((tmp_path / "explanation.csv").open()))
    assert {row["kind"] for row in rows} >= {"contribution", "probability_without"}


def test_maps_of_random_networks_are_others(
    why: ExplainPrediction, retina: Photograph, tmp_path: Path
) -> None:
    result = ask(why, retina, tmp_path, gate())
    agreement = result.measurement("randomised_agreement")
    assert agreement
    assert agreement.value < 0.5
    heat = cv2.imread(str(tmp_path / "saliency.png"), cv2.IMREAD_UNCHANGED)
    assert heat.shape == (retina.height, retina.width, 4)
    assert heat[..., 3].max() > 100
    assert not heat[~retina.field_of_view].any()


def test_an_explanation_repeats_and_is_quick(
    why: ExplainPrediction, retina: Photograph, tmp_path: Path
) -> None:
    first = ask(why, retina, tmp_path, gate(), condition="glaucoma")
    started = time.process_time()
    again = ask(why, retina, tmp_path, gate(), condition="glaucoma")
    assert time.process_time() - started < 5.0
    assert first.measurements == again.measurements


def test_there_is_nothing_to_explain_where_nothing_was_graded(
    why: ExplainPrediction, retina: Photograph, tmp_path: Path
) -> None:
    with pytest.raises(NotApplicable, match="no answer"):
        ask(why, retina, tmp_path, gate(state="absent", value="reject"))


def test_an_untrustworthy_map_is_called_so(
    why: ExplainPrediction, retina: Photograph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fovea_plugins.explainer import maps

    bad = maps.Trust(infidelity=1.0, sensitivity=3.0, randomised_agreement=0.9)
    monkeypatch.setattr(maps, "trust", lambda *_: bad)
    result = ask(why, retina, tmp_path, gate())
    assert {"map_not_learned", "map_unstable"} <= {caveat.code for caveat in result.caveats}
    finding = result.finding("trustworthy_explanation")
    assert finding
    assert finding.state == "absent"
    assert "not trustworthy" in result.summary


def test_altered_weights_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "plugin.toml").write_text((FOLDER / "plugin.toml").read_text())
    (tmp_path / "weights/classifier.safetensors").write_bytes(b"other")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    with pytest.raises(PluginUnavailable, match="not the released ones"):
        shipped.shipped_reader("explain_prediction")


def test_random_weights_give_other_logits() -> None:
    from fovea_plugins.explainer.maps import randomised

    reader = ClassifierReader.read(FOLDER / "weights/classifier.safetensors")
    picture, style = torch.randn(1, 5, 64, 64), torch.randn(1, 6)
    with torch.inference_mode():
        own, other = reader.network(picture, style), randomised(reader.network, 1)(picture, style)
    assert not torch.allclose(own, other)
    assert WhyArgs().condition == "referable_dr"
