"""Published networks: architecture, weights, and how a photograph is prepared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from published_weights import NAMES, drawn, make_small, stored
from safetensors.torch import save_file
from torch import nn

from fovea.errors import Cancelled, WeightsError
from fovea.image import Photograph, open_photograph
from fovea_plugins.segmenter.published import catalogue
from fovea_plugins.segmenter.published.adding import add_published
from fovea_plugins.segmenter.published.catalogue import BIG_WNET, RRWNET, VARIANTS, WNET
from fovea_plugins.segmenter.published.pipelines import (
    BORDER,
    RIM,
    Found,
    _narrowed,
    enhance,
    find_vessels,
)
from fovea_plugins.segmenter.published.reading import (
    build,
    check_weights,
    expected_shapes,
    read_network,
)


@pytest.fixture(scope="module")
def photograph() -> Photograph:
    return drawn()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)


# Architecture


def authors_names(network: catalogue.Network) -> set[str]:
    """Names in the authors' weight files, batch counters and second names left out."""
    if network is RRWNET:
        pairs = [f"conv{n}.conv{m}" for n in range(1, 10) for m in (1, 2)]
        parts = [*pairs, *(f"upconv{n}.conv" for n in range(1, 5)), "outconv"]
        kinds = ("weight", "bias")
        return {f"{u}.{p}.{k}" for u in ("first_u", "second_u") for p in parts for k in kinds}
    levels = range(2 if network is WNET else 3)
    residuals = ["first", *(f"down_path.{n}" for n in levels)]
    residuals += [f"up_path.{n}.conv_layer" for n in levels]
    norms = [f"{r}.{part}" for r in residuals for part in ("block.2", "block.5", "shortcut.1")]
    norms += [f"up_path.{n}.conv_bridge_layer.block.2" for n in levels]
    plain = [f"{r}.block.{n}" for r in residuals for n in (0, 3)] + ["final"]
    plain += [f"up_path.{n}.{p}.block.0" for n in levels for p in ("up_layer", "conv_bridge_layer")]
    own = {
        f"{n}.{kind}" for n in norms for kind in ("weight", "bias", "running_mean", "running_var")
    }
    own |= {f"{p}.{kind}" for p in plain for kind in ("weight", "bias")}
    own |= {f"{r}.shortcut.0.weight" for r in residuals}
    return {f"{unet}.{name}" for unet in ("unet1", "unet2") for name in own}


@pytest.mark.parametrize(
    ("network", "parameters"), [(WNET, 68_482), (BIG_WNET, 279_464), (RRWNET, 62_063_685)]
)
def test_parameters_and_names_are_the_published_ones(
    network: catalogue.Network, parameters: int
) -> None:
    with torch.device("meta"):
        made = build(network)
    assert sum(p.numel() for p in made.parameters()) == parameters == network.parameters
    assert expected_shapes(network).keys() == authors_names(network)


def test_shapes_that_tell_variants_of_the_layout_apart() -> None:
    little, large = expected_shapes(WNET), expected_shapes(BIG_WNET)
    assert little["unet2.first.block.0.weight"] == (8, 4, 3, 3)  # the picture and one logit
    assert large["unet2.first.block.0.weight"] == (8, 7, 3, 3)  # the picture and four logits
    assert little["unet1.up_path.0.up_layer.block.0.weight"] == (32, 16, 2, 2)
    refining = expected_shapes(RRWNET)
    assert refining["first_u.conv5.conv2.weight"] == (1024, 1024, 3, 3)
    assert refining["second_u.outconv.weight"] == (2, 64, 1, 1)


def test_rrwnet_refines_arteries_and_veins_and_leaves_vessels(small: None) -> None:
    torch.manual_seed(0)
    network = build(RRWNET).eval()
    picture = torch.rand(1, 3, 32, 48)
    with torch.inference_mode():
        first, last = network.first(picture), network(picture)
        again = first
        for _ in range(6):
            again = network.refine(again)
    assert first.shape == last.shape == (1, 3, 32, 48)
    assert torch.equal(last, again)
    assert torch.equal(first[:, 2], last[:, 2])
    assert not torch.equal(first[:, :2], last[:, :2])


# Weights


def test_weights_come_back_as_they_were(small: None, tmp_path: Path) -> None:
    torch.manual_seed(3)
    for name in NAMES:
        network = build(VARIANTS[name].network).eval()
        stored(network, tmp_path / "a.safetensors")
        check_weights(VARIANTS[name], tmp_path / "a.safetensors")
        back = read_network(VARIANTS[name], tmp_path / "a.safetensors")
        x = torch.rand(1, 3, 32, 32)
        assert torch.allclose(back(x), network(x), atol=1e-6)


def test_files_with_second_names_or_without_counters_load(small: None, tmp_path: Path) -> None:
    """The authors' RRWNet names each layer twice; files of old versions count no batches."""
    path = tmp_path / "a.safetensors"
    plain = dict(build(RRWNET).state_dict())
    second = {
        name.replace(".conv.", ".conv_block.0.")
        if ".upconv" in name
        else name.replace(".conv1.w", ".conv_block.0.w")
        .replace(".conv1.b", ".conv_block.0.b")
        .replace(".conv2.w", ".conv_block.2.w")
        .replace(".conv2.b", ".conv_block.2.b"): value.clone()
        for name, value in plain.items()
    }
    assert len(second.keys() - plain.keys()) == len(plain) - 4
    x = torch.rand(1, 3, 32, 32)
    answers = []
    for tensors in (plain, second, {**second, **plain}):
        save_file(tensors, path)
        answers.append(read_network(VARIANTS["rrwnet-rite"], path)(x))
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])
    state = build(WNET).state_dict()
    save_file({n: v for n, v in state.items() if "num_batches" not in n}, path)
    read_network(VARIANTS["wnet-drive"], path)


def test_weights_of_another_network_are_refused_by_name(tmp_path: Path, plugins: Path) -> None:
    path = tmp_path / "mine.safetensors"
    sha256 = stored(build(BIG_WNET), path)
    with pytest.raises(WeightsError, match="of Big W-Net, not of Little W-Net") as raised:
        add_published("wnet-drive", path, sha256=sha256, plugins_dir=plugins)
    assert "mine.safetensors" in str(raised.value)
    assert not list(plugins.iterdir())
    strange = {"conv.weight": torch.zeros(3), "unet1.final.bias": torch.zeros(7)}
    save_file(strange, path)
    with pytest.raises(WeightsError, match="not weights of Little W-Net") as raised:
        read_network(VARIANTS["wnet-drive"], path)
    for part in ("missing", "unknown, such as `conv.weight`", "another size", "agaldran/lwnet"):
        assert part in str(raised.value)


def test_damaged_or_meaningless_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    network = build(WNET)
    with torch.no_grad():
        network.unet1.final.bias[0] = float("nan")
    stored(network, path)
    with pytest.raises(WeightsError, match="not numbers"):
        read_network(VARIANTS["wnet-drive"], path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="models convert"):
        read_network(VARIANTS["wnet-drive"], path)


# Preparation


def test_enhancing_forgets_brightness_and_its_slow_change() -> None:
    rows, columns = np.mgrid[:200, :200]
    inside = (rows - 99.5) ** 2 + (columns - 99.5) ** 2 < 90**2
    line = np.abs(columns - 100) < 2
    pictures = []
    for base in (120.0, 160.0):
        grey = (base + 0.1 * columns - 40 * line) * inside
        pixels = np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)
        worn, picture = enhance(pixels, inside)
        pictures.append(picture)
        assert picture.min() == 0
        assert picture.max() == pytest.approx(1)
        assert not picture[~worn].any()
        assert inside.sum() > worn.sum() > 0.85 * inside.sum()
        beside = worn & ~line & (np.abs(columns - 100) > 40)
        assert np.ptp(picture[beside & (rows > 80) & (rows < 120)]) < 0.1
        assert np.median(picture[worn & line]) < 0.3 < np.median(picture[beside])
    assert np.abs(pictures[0] - pictures[1]).mean() < 0.02


def test_the_square_of_the_w_net_maps_back_to_where_it_came_from(photograph: Photograph) -> None:
    """A network that answers with brightness gives the brightness back, in place."""

    class Echo(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.logit(x[:, 1:2].clamp(0.01, 0.99))

    variant = replace(VARIANTS["wnet-drive"], threshold=0.3)
    found: Found = find_vessels(Echo(), variant, photograph, lambda text: None)
    green = photograph.pixels[..., 1] / 255.0
    inner = _narrowed(photograph.field_of_view, 8)
    assert np.abs(found.probability - green)[inner].mean() < 0.02
    assert not found.probability[~photograph.field_of_view].any()


@pytest.mark.shared_data
def test_rrwnet_sees_what_its_authors_gave_it(shared_data: Path) -> None:
    """With the field found by Fovea the input is that of the field drawn for DRIVE."""
    for number in ("01", "10", "30"):
        path = shared_data / "DRIVE" / "images" / f"{number}.png"
        field = next((shared_data / "DRIVE" / "fov").glob(f"{number}*"))
        pixels = np.asarray(Image.open(path).convert("RGB"))
        worn, expected = enhance(pixels, np.asarray(Image.open(field).convert("L")) > 127)
        view = open_photograph(path).view(540)
        border = round(BORDER * 540)
        padded = cv2.copyMakeBorder(view.pixels, *(border,) * 4, cv2.BORDER_CONSTANT)
        inside = _narrowed(np.pad(view.field_of_view, border), round(RIM * 540))
        own_worn, own = enhance(np.asarray(padded, np.uint8), inside)
        cut = slice(border, -border)
        left, top = int(view.frame.left), int(view.frame.top)
        height, width = view.field_of_view.shape
        there = expected[top : top + height, left : left + width]
        both = own_worn[cut, cut] & worn[top : top + height, left : left + width]
        assert both.sum() > 0.95 * worn.sum()
        assert np.abs(own[cut, cut] - there)[both].mean() < 0.06


def test_a_run_can_be_stopped_between_passes(small: None, photograph: Photograph) -> None:
    seen: list[str] = []

    def step(text: str) -> None:
        seen.append(text)
        if len(seen) == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        find_vessels(build(RRWNET).eval(), VARIANTS["rrwnet-rite"], photograph, step)
    assert len(seen) == 3
