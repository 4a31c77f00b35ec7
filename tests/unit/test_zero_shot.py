"""Image-text models and linear probes, on a tiny checkpoint that is made here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from fovea.cli import app
from fovea.errors import ConfigError, NotAFundusPhotograph, UnreadableImage, WeightsError
from fovea_plugins.classifier.zero_shot import ImageTextModel, knowledge_prompts
from fovea_plugins.training import probe, tasks
from fovea_plugins.training.classifier_data import read_photograph

WORDS = ["a", "fundus", "photograph", "of", "glaucoma", "normal", "cataract", "retina"]


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of a few thousand weights in the layout of `save_pretrained`."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    folder = tmp_path_factory.mktemp("clip") / "tiny"
    folder.mkdir()
    letters = sorted({letter for word in WORDS for letter in word})
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{one}</w>" for one in letters)]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    common = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = CLIPConfig(
        text_config={
            **common, "num_attention_heads": 2, "vocab_size": len(tokens),
            "max_position_embeddings": 77, **ends,
        },
        vision_config={**common, "num_attention_heads": 2, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )  # fmt: skip
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder, safe_serialization=True)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def draw_eye(path: Path, colour: tuple[int, int, int], *, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    picture = Image.new("RGB", (160, 160))
    ImageDraw.Draw(picture).ellipse((5, 5, 154, 154), fill=colour)
    noise = rng.integers(-8, 9, (160, 160, 3))
    pixels = np.clip(np.asarray(picture, int) + noise, 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def test_scores_are_shares_and_follow_the_texts(tiny_clip: Path, tmp_path: Path) -> None:
    model = ImageTextModel.read(tiny_clip)
    photograph = read_photograph(draw_eye(tmp_path / "eye.png", (170, 90, 40)))
    prompts = {"glaucoma": ["a glaucoma"], "normal": ["a normal retina", "normal"]}
    scores = model.scores(photograph, prompts)
    assert set(scores) == set(prompts)
    assert sum(scores.values()) == pytest.approx(1.0)
    swapped = {"glaucoma": prompts["normal"], "normal": prompts["glaucoma"]}
    again = model.scores(photograph, swapped)
    assert again["normal"] == pytest.approx(scores["glaucoma"], abs=1e-5)
    assert np.linalg.norm(model.of_texts(["a retina"])[0]) == pytest.approx(1.0, abs=1e-5)
    assert model.scores(photograph, {}) == {}


def test_the_command_scores_photographs_only(
    tiny_clip: Path, tmp_path: Path, retina_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOVEA_DATA_DIR", str(tmp_path / "data"))
    run = CliRunner()
    done = run.invoke(app, ["zero-shot", str(retina_path), "--model", str(tiny_clip), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["calibrated"] is False
    assert len(found["scores"]) == 10
    drawn = draw_eye(tmp_path / "plain.png", (60, 160, 240))
    done = run.invoke(app, ["zero-shot", str(drawn), "--model", str(tiny_clip)])
    assert isinstance(done.exception, NotAFundusPhotograph)


def test_every_condition_of_the_knowledge_base_has_prompts() -> None:
    prompts = knowledge_prompts()
    assert len(prompts) > 50
    assert all(prompts.values())
    assert "a fundus photograph of Glaucoma" in prompts["glaucoma"]


def test_a_checkpoint_without_text_tower_is_refused(tiny_clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "vision_only"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "vit", "image_size": 32}))
    with pytest.raises(WeightsError, match="no text tower"):
        ImageTextModel.read(folder)


def test_a_folder_without_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"config\.json"):
        ImageTextModel.read(tmp_path)


def test_a_checkpoint_without_safetensors_is_refused(tiny_clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(tiny_clip, folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="cannot be read"):
        ImageTextModel.read(folder)


def test_a_probe_learns_to_tell_two_colours(tiny_clip: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(tiny_clip, root / "model")
    for n in range(24):
        draw_eye(root / "glaucoma" / f"g{n}.png", (200, 60, 30), seed=n)
        draw_eye(root / "normal_fundus" / f"n{n}.png", (90, 110, 130), seed=100 + n)
    weights = tasks.train("probe", root, out=tmp_path / "out", steps=60)
    figures = tasks.evaluate("probe", root, weights=weights)
    assert figures["n"] >= 4
    assert figures["auc"]["glaucoma"] > 0.95


def test_a_folder_named_like_no_condition_suggests_the_nearest(tmp_path: Path) -> None:
    draw_eye(tmp_path / "glaucom" / "a.png", (200, 60, 30))
    with pytest.raises(ConfigError, match="Did you mean `glaucoma`"):
        probe.find_labelled(tmp_path)


def test_one_condition_alone_cannot_be_learned(tmp_path: Path) -> None:
    draw_eye(tmp_path / "glaucoma" / "a.png", (200, 60, 30))
    with pytest.raises(ConfigError, match="only one condition"):
        probe.find_labelled(tmp_path)


def test_no_photographs_at_all(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="no labelled photographs"):
        probe.find_labelled(tmp_path)


def test_a_probe_cannot_be_measured_without_its_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No probe is shipped"):
        tasks.evaluate("probe", tmp_path)
