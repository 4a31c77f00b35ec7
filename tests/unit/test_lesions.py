"""Lesions: from drawn probabilities to masks, counts, regions and what is said about them."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fovea.check_result import check_result
from fovea.contract import Context, Finding, Measurement, NoArgs, NotMeasured, Result, read_mask
from fovea.errors import Cancelled, NotApplicable, PluginUnavailable
from fovea.image import Photograph, Scale
from fovea.manifest import read_manifest
from fovea.testing import synthetic_fundus, synthetic_photograph
from fovea_plugins.field_network import CHANNELS, FieldNetwork
from fovea_plugins.segmenter import lesions
from fovea_plugins.segmenter.lesions.measures import ENDINGS, STEMS
from fovea_plugins.segmenter.lesions.operating_points import POINTS, Cuts
from fovea_plugins.segmenter.lesions.plugin import SegmentLesions
from fovea_plugins.segmenter.lesions.reading import KINDS, LesionReader, outlined
from fovea_plugins.training.nets import NetConfig, WNet

CUTS = Cuts(outline=0.3, lenient=0.4, counted=0.5, strict=0.7)
FOLDER = Path(lesions.__file__).parent
SIZE = 900


def dotted(*spots: tuple[int, int, int, float], size: int = 200) -> np.ndarray:
    """A map of probabilities with discs of (x, y, radius, probability)."""
    drawn = np.zeros((size, size), np.float32)
    for x, y, radius, probability in spots:
        cv2.circle(drawn, (x, y), radius, probability, -1)
    return drawn


# Spots


def test_spots_are_counted_by_their_highest_probability():
    drawn = dotted((30, 40, 4, 0.9), (90, 40, 4, 0.55), (150, 40, 4, 0.45), (30, 120, 4, 0.35))
    kind = outlined("haemorrhages", drawn, CUTS, least_px=5)
    assert [len(kind.at(c)) for c in (CUTS.strict, CUTS.counted, CUTS.lenient)] == [1, 2, 3]
    assert [(round(s.x), round(s.y)) for s in kind.lesions] == [(30, 40), (90, 40)]
    assert kind.mask.sum() == sum(spot.area_px for spot in kind.lesions)
    assert not kind.mask[:, 120:].any()


def test_specks_are_no_lesions_and_touching_spots_are_one():
    drawn = dotted((30, 40, 1, 0.9), (90, 40, 6, 0.9), (100, 40, 6, 0.9))
    kind = outlined("microaneurysms", drawn, CUTS, least_px=10)
    assert len(kind.lesions) == 1
    assert not kind.mask[:60, :50].any()


def test_an_empty_map_has_no_spots():
    kind = outlined("hard_exudates", np.zeros((50, 60), np.float32), CUTS, least_px=4)
    assert kind.spots == ()
    assert kind.mask.shape == (50, 60)
    assert not kind.mask.any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.floats(0.05, 0.95), min_size=4, max_size=4))
def test_counts_fall_and_masks_shrink_as_cuts_rise(seed: int, levels: list[float]):
    noise = np.random.default_rng(seed).random((60, 60)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    drawn = (smooth - smooth.min()) / np.ptp(smooth)
    kind = outlined("microaneurysms", drawn, Cuts(*sorted(levels)), least_px=3)
    cuts = kind.cuts
    counts = [len(kind.at(cut)) for cut in (cuts.lenient, cuts.counted, cuts.strict)]
    assert counts == sorted(counts, reverse=True)
    assert len(kind.spots) == counts[0]
    assert (drawn[kind.mask] >= cuts.outline).all()
    assert kind.mask.sum() == sum(spot.area_px for spot in kind.lesions)


def test_shipped_operating_points_are_in_order():
    assert tuple(POINTS) == KINDS == tuple(STEMS)
    for point in POINTS.values():
        cuts = point.cuts
        assert 0 < cuts.outline <= cuts.lenient <= cuts.counted <= cuts.strict < 1
        assert 0 <= point.eyes_found <= point.eyes
        assert 0 < point.lesions_found < 1


# Networks


def tiny_network(seed: int) -> FieldNetwork:
    torch.manual_seed(seed)
    config = NetConfig(inputs=CHANNELS, outputs=4, first=(8, 8), second=(8,), detail=4)
    return FieldNetwork(WNet(config), 128, mirrors=2)


def test_networks_have_one_voice_each():
    photograph = synthetic_photograph()
    networks = [tiny_network(seed) for seed in range(3)]
    maps, frame = LesionReader(networks).maps(photograph)
    single = [network.on_photograph(photograph)[0] for network in networks]
    assert np.allclose(maps, np.mean(single, axis=0), atol=1e-6)
    assert maps.shape == (4, frame.height, frame.width)
    kinds = list(LesionReader(networks).read(photograph))
    assert [kind.name for kind in kinds] == list(KINDS)
    assert all(kind.mask.shape == (photograph.height, photograph.width) for kind in kinds)


def test_stop_takes_effect_between_networks():
    seen: list[str] = []

    def progress(text: str) -> None:
        seen.append(text)
        if len(seen) == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        list(LesionReader([tiny_network(0), tiny_network(1)]).read(synthetic_photograph(),
                                                                   progress=progress))  # fmt: skip
    assert seen == [f"Looking for lesions, network {n} of 2" for n in (1, 2)]


# The plugin, with drawn probabilities in place of networks


class Drawn(LesionReader):
    """Gives drawn maps, at the size of the original, as what the networks found."""

    def __init__(self, maps: dict[str, np.ndarray]) -> None:
        super().__init__([])
        self._maps = maps

    def read(self, photograph, *, progress=lambda text: None):
        empty = np.zeros((photograph.height, photograph.width), np.float32)
        for name in KINDS:
            progress(f"Outlining {name}")
            yield outlined(name, self._maps.get(name, empty), POINTS[name].cuts, least_px=4)


def plugin_with(maps: dict[str, np.ndarray]) -> SegmentLesions:
    plugin = SegmentLesions(read_manifest(FOLDER / "plugin.toml"), FOLDER)
    plugin._reader = Drawn(maps)
    return plugin


def px(name: str, value: float) -> Measurement:
    return Measurement(name=name, value=value, unit="px", method="drawn")


Maker = Callable[..., Context]


@pytest.fixture
def context_of(tmp_path: Path) -> Maker:
    """A drawn right eye of 900 pixels with its landmarks as the other tools give them."""

    def make(
        eye: str = "OD", *, places: bool = True, disc: bool = True, seen: bool = True,
        photograph: Photograph | None = None,
    ) -> Context:  # fmt: skip
        fundus = synthetic_fundus(SIZE, SIZE, eye=eye)
        image = photograph or synthetic_photograph(fundus=fundus)
        found = Result(
            summary="Drawn.",
            findings=(Finding(concept="eye", state="present", value=eye),),
            measurements=(
                px("disc_x", fundus.disc_x), px("disc_y", fundus.disc_y),
                px("fovea_x", fundus.fovea_x), px("fovea_y", fundus.fovea_y),
            ) if places else (),
        )  # fmt: skip
        if not seen:
            from fovea.contract import Caveat

            told = Caveat(code="fovea_estimated", text="Not seen, but placed.")
            found = found.model_copy(update={"caveats": (told,)})
        earlier = dict.fromkeys(("disc_x", "disc_y", "fovea_x", "fovea_y", "eye"), found)
        context = Context(images=(image,), work_dir=tmp_path, earlier=earlier)
        if disc and places:
            outline = context.save_mask("optic_disc", fundus.disc)
            size = Result(
                summary="Drawn.",
                artifacts=(outline,),
                measurements=(
                    px("disc_diameter_vertical", 140.0), px("disc_diameter_horizontal", 140.0),
                ),
            )  # fmt: skip
            names = ("optic_disc", "disc_diameter_vertical", "disc_diameter_horizontal")
            context = replace(context, earlier={**earlier, **dict.fromkeys(names, size)})
        return context

    return make


def around_fovea(context: Context, *offsets: tuple[int, int], radius: int = 4) -> np.ndarray:
    x, y = (round(context.measured(f"fovea_{axis}").value) for axis in "xy")
    return dotted(*((x + dx, y + dy, radius, 0.97) for dx, dy in offsets), size=SIZE)


def run(plugin: SegmentLesions, context: Context) -> Result:
    result = plugin.run(context, NoArgs())
    check_result(plugin.manifest, result, context)
    return result


def by_zone(result: Result, name: str) -> dict[str, float]:
    return {m.zone: m.value for m in result.measurements if m.name == name}


@pytest.mark.parametrize("eye", ["OD", "OS"])
def test_lesions_are_counted_by_quadrant_and_etdrs_field(context_of: Maker, eye: str):
    context = context_of(eye)
    temporal = -1 if eye == "OD" else 1
    drawn = around_fovea(
        context, (temporal * 60, -60), (temporal * 90, -80), (-temporal * 60, 70), (0, 0)
    )
    result = run(plugin_with({"hard_exudates": drawn}), context)
    zones = by_zone(result, "hard_exudate_quadrant_count")
    assert set(zones) == {"superotemporal", "inferotemporal", "superonasal", "inferonasal"}
    assert zones["superotemporal"] >= 2
    assert zones["inferonasal"] >= 1
    assert sum(zones.values()) == result.measurement("hard_exudate_count").value == 4
    fields = by_zone(result, "hard_exudate_etdrs_count")
    assert fields["etdrs_centre"] == 1
    assert sum(fields.values()) <= 4
    assert result.measurement("hard_exudate_fovea_distance").value < 0.01


def test_distance_to_the_fovea_is_that_of_the_nearest_edge(context_of: Maker):
    context = context_of()
    drawn = around_fovea(context, (-140, 0), (0, 210), radius=10)
    result = run(plugin_with({"hard_exudates": drawn}), context)
    found = result.measurement("hard_exudate_fovea_distance")
    assert found.unit == "[DD]"
    assert found.value == pytest.approx(130 / 140, abs=0.02)
    scale = Scale.from_disc_fovea(
        float(np.hypot(*(context.measured(f"disc_{a}").value - context.measured(f"fovea_{a}").value
                         for a in "xy")))
    )  # fmt: skip
    um = result.measurement("hard_exudate_fovea_distance_um")
    assert um.value == pytest.approx(130 * scale.um_per_px, rel=0.03)
    assert um.interval.low < um.value < um.interval.high
    area = result.measurement("hard_exudate_area")
    pixels = result.measurement("hard_exudate_area_px").value
    assert pixels == read_mask(context.work_dir / "hard_exudates.png").sum()
    assert area.value == pytest.approx(pixels * (scale.um_per_px / 1000) ** 2, rel=0.03)
    share = result.measurement("hard_exudate_area_share").value
    assert share == pytest.approx(100 * pixels / context.image.field_of_view.sum())


def test_every_declared_measurement_is_given_or_explained(context_of: Maker):
    for maps in ({}, {"haemorrhages": around_fovea(context_of(), (50, 50))}):
        for context in (context_of(), context_of(places=False), context_of(disc=False)):
            result = run(plugin_with(maps), context)
            told = {m.name for m in result.measurements} | {m.name for m in result.not_measured}
            assert told == {f"{stem}_{ending}" for stem in STEMS.values() for ending in ENDINGS}


def test_without_landmarks_regions_and_distance_are_not_measured(context_of: Maker):
    drawn = {"haemorrhages": around_fovea(context_of(), (60, 60))}
    result = run(plugin_with(drawn), context_of(places=False))
    gaps = {gap.name: gap.reason for gap in result.not_measured}
    assert "not found" in gaps["haemorrhage_quadrant_count"]
    assert "scale" in gaps["haemorrhage_etdrs_count"]
    assert "fovea" in gaps["haemorrhage_fovea_distance"].lower()
    assert gaps["haemorrhage_area"] == "The pixel scale is not known."
    assert result.measurement("haemorrhage_count").value == 1
    without_disc = run(plugin_with(drawn), context_of(disc=False))
    reasons = {gap.name: gap.reason for gap in without_disc.not_measured}
    assert "diameter of the optic disc" in reasons["haemorrhage_fovea_distance"]
    assert without_disc.measurement("haemorrhage_fovea_distance_um") is not None


def test_a_fovea_that_was_only_guessed_gives_no_distance(context_of: Maker):
    drawn = {"haemorrhages": around_fovea(context_of(), (60, 60))}
    result = run(plugin_with(drawn), context_of(seen=False))
    assert result.measurement("haemorrhage_fovea_distance") is None
    assert result.measurement("haemorrhage_fovea_distance_um") is None
    assert sum(by_zone(result, "haemorrhage_quadrant_count").values()) == 1


def test_present_needs_a_spot_beyond_doubt(context_of: Maker):
    context = context_of()
    x, y = 450, 300
    for kind, stem in STEMS.items():
        cuts = POINTS[kind].cuts
        doubtful = (cuts.counted + cuts.strict) / 2
        for probability, state in ((cuts.strict + 1e-3, "present"), (doubtful, "indeterminate")):
            drawn = dotted((x, y, 5, probability), size=SIZE)
            finding = run(plugin_with({kind: drawn}), context).finding(stem)
            assert finding.state == state
            assert finding.probability == pytest.approx(probability, abs=1e-5)
            assert not finding.calibrated


def test_nothing_found_is_never_called_absent_or_normal(context_of: Maker):
    result = run(plugin_with({}), context_of())
    for finding in result.findings:
        assert finding.state == "indeterminate"
        assert "none was outlined in the field" in finding.detail
        assert "are found" in finding.detail
    said = " ".join([result.summary, *(f.detail for f in result.findings)]).lower()
    assert "normal" not in said
    assert "no lesions" not in said
    assert "a count of 0 excludes nothing" in said
    assert "lesions_missed" in {caveat.code for caveat in result.caveats}
    assert result.measurement("microaneurysm_count").interval.low == 0


def test_a_coarse_photograph_has_no_microaneurysms_to_speak_of(context_of: Maker, tmp_path):
    fundus = synthetic_fundus(360, 360)
    context = context_of(places=False, photograph=synthetic_photograph(fundus=fundus))
    result = run(plugin_with({}), context)
    finding = result.finding("microaneurysm")
    assert finding.state == "not_assessable"
    assert "pixels wide" in finding.detail
    gaps = {gap.name for gap in result.not_measured}
    assert {f"microaneurysm_{ending}" for ending in ENDINGS} <= gaps
    assert "microaneurysms" not in {artifact.name for artifact in result.artifacts}
    assert "coarse_picture" in {caveat.code for caveat in result.caveats}


def test_a_grey_picture_has_a_caveat(context_of: Maker):
    grey = replace(synthetic_photograph(fundus=synthetic_fundus(SIZE, SIZE)), grey=True)
    result = run(plugin_with({}), context_of(photograph=grey))
    assert "grey_picture" in {caveat.code for caveat in result.caveats}


def test_an_implausible_amount_is_refused(context_of: Maker):
    context = context_of()
    flooded = np.where(context.image.field_of_view, 0.99, 0.0).astype(np.float32)
    with pytest.raises(NotApplicable, match="plausible"):
        plugin_with({"hard_exudates": flooded}).run(context, NoArgs())


def test_without_networks_it_refuses(context_of: Maker, tmp_path: Path):
    bare = SegmentLesions(read_manifest(FOLDER / "plugin.toml"), tmp_path)
    with pytest.raises(FileNotFoundError):
        bare.load("cpu")
    with pytest.raises(PluginUnavailable):
        bare.run(context_of(), NoArgs())


def test_the_table_lists_every_counted_lesion(context_of: Maker):
    context = context_of()
    drawn = around_fovea(context, (60, 60), (-70, -40), (30, -90))
    result = run(plugin_with({"haemorrhages": drawn}), context)
    table = next(a for a in result.artifacts if a.kind == "table")
    rows = list(csv.DictReader(table.path.open()))
    assert len(rows) == result.measurement("haemorrhage_count").value == 3
    assert {row["kind"] for row in rows} == {"haemorrhage"}
    zones = by_zone(result, "haemorrhage_quadrant_count")
    for zone, count in zones.items():
        assert sum(row["quadrant"] == zone for row in rows) == count


def test_fields_that_the_picture_does_not_show_are_not_counted(context_of: Maker):
    context = context_of()
    x = context.measured("fovea_x").value
    image = context.image
    shown = image.field_of_view.copy()
    shown[:, : round(x) - 60] = False
    context = replace(context, images=(replace(image, field_of_view=shown),))
    drawn = around_fovea(context, (40, 40))
    result = run(plugin_with({"haemorrhages": drawn}), context)
    fields = by_zone(result, "haemorrhage_etdrs_count")
    assert "etdrs_outer_temporal" not in fields
    assert "etdrs_inner_nasal" in fields
    gap = next(g for g in result.not_measured if g.name == "haemorrhage_etdrs_count")
    assert isinstance(gap, NotMeasured)
    assert "etdrs outer temporal" in gap.reason
