"""The task `landmarks`: one small network for disc, fovea, and whether a picture is retina."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (the customary name)

from fovea_plugins.quality.maps import DISC, FIELD_PX, FOVEA, RETINA, peaks
from fovea_plugins.quality.network import CHANNELS, LandmarkNetwork, network_input
from fovea_plugins.training import augment, drawn
from fovea_plugins.training.data import Entry, Floats, split_held_out
from fovea_plugins.training.landmark_data import (
    Point,
    Scene,
    drawn_scene,
    fundus_entries,
    other_entries,
    read_scenes,
    truth_of,
)
from fovea_plugins.training.measure_landmarks import evaluate
from fovea_plugins.training.measure_quality import shipped_weights
from fovea_plugins.training.nets import NetConfig, WNet
from fovea_plugins.training.self_labels import label
from fovea_plugins.training.trainer import Schedule

__all__ = ["SCHEDULE", "LandmarkTask", "evaluate", "finish", "make"]

NAME = "landmarks"
CONFIG = NetConfig(
    inputs=CHANNELS, outputs=3, first=(12, 16, 24, 32, 48), second=(), detail=4, block=2
)
KEPT_PX = 176
"""Field diameter at which pictures are kept for training: finer than `FIELD_PX`, to zoom in."""

KNOWN, UNKNOWN, OTHERS = 9, 2, 7
"""Pictures of a batch: with known landmarks, retinas without, no retinas."""

ZOOM = (0.62, 1.5)
"""Magnification: a field of 50 degrees is made to look like one of 33 to 80."""

Aim = Literal["anywhere", "on_disc", "off_disc"]
AIMS: Mapping[Aim, float] = {"anywhere": 0.65, "on_disc": 0.2, "off_disc": 0.15}
"""Shares of pictures by what they are centred on, where the disc is known: as they are, on the
disc, or on the other half of the field, with the disc at the edge or outside."""

AIMED_ZOOM = (1.3, 2.0)
"""As if taken with a field of 25 to 38 degrees."""

MOST_PER_SET = 300
"""So many retinas without known landmarks are read of each data set."""

DRAWN, DRAWN_HELD_OUT = 22, 2
"""So many drawn pictures of each family are learnt from, and so many more held out."""

HELD_OUT_EVERY = 8
DISC_SIGMA_PX, FOVEA_SIGMA_PX = 5.0, 6.0
"""Spread of the wanted peaks, at `FIELD_PX`: about a quarter and a third of a disc diameter."""

PEAK_WEIGHT = 8.0
RETINA_WEIGHT = 1.0
SCHEDULE = Schedule(steps=2600, learning_rate=4e-3, ema=0.99, first_validation=0.5)


@dataclass(frozen=True)
class Shot:
    """One training picture: input (4, S, S), target (3, S, S), weight (3, S, S)."""

    layers: Floats
    target: Floats
    weight: Floats


def _matrix(rng: np.random.Generator, scene: Scene, aim: Aim) -> Floats:
    """Affine map (2, 3) from the scene to a square of `FIELD_PX`: turned, mirrored, zoomed, moved.

    Most pictures are nearly upright; a quarter are turned anyhow, as tilted heads,
    inverting cameras and scanned slides turn them.
    """
    angle = rng.uniform(-20.0, 20.0) if rng.random() < 0.75 else rng.uniform(-180.0, 180.0)
    zoom = float(np.exp(rng.uniform(*np.log(ZOOM if aim == "anywhere" else AIMED_ZOOM))))
    zoom *= FIELD_PX / KEPT_PX
    squeeze = float(np.exp(rng.uniform(-0.08, 0.08)))
    turn = np.deg2rad(angle)
    flip = 1.0 if rng.random() < 0.5 else -1.0
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = zoom * rotation @ np.diag([flip * squeeze, 1.0 / squeeze])
    height, width = scene.inside.shape
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    if aim != "anywhere" and scene.disc is not None:
        # Opposite the disc, as far from the middle of the field as a quarter of its diameter.
        away = centre - np.array(scene.disc)
        reach = rng.uniform(0.1, 0.25) * KEPT_PX / (float(np.hypot(*away)) + 1.0)
        centre = np.array(scene.disc) if aim == "on_disc" else centre + reach * away
    middle = (FIELD_PX - 1) / 2 + rng.uniform(-14.0, 14.0, 2)
    return np.column_stack([linear, middle - linear @ centre]).astype(np.float32)


def _field(rng: np.random.Generator, inside: Floats, aim: Aim) -> Floats:
    """The field of view (S, S), sometimes cut to a smaller circle or to a band, as cameras cut."""
    side = inside.shape[0]
    if rng.random() < (0.35 if aim == "anywhere" else 0.8):
        rows, columns = np.mgrid[:side, :side]
        x, y = (side - 1) / 2 + rng.uniform(-6, 6, 2)
        inside = inside * (np.hypot(columns - x, rows - y) < rng.uniform(0.42, 0.5) * side)
    if rng.random() < 0.25:
        margin = int(rng.integers(4, side // 6))
        inside = inside.copy()
        inside[:margin] = 0
        inside[-margin:] = 0
    return inside


def _worse(rng: np.random.Generator, pixels: Floats) -> Floats:
    """Pixels (S, S, 3) as a poor camera, a poor light or a poor focus would show them."""
    unit = np.clip(pixels / 255.0, 0.0, 1.0)
    unit = unit ** np.exp(rng.normal(0.0, 0.25, 3)).astype(np.float32)
    if rng.random() < 0.4:
        unit = unit @ (np.eye(3) + rng.uniform(-0.2, 0.2, (3, 3))).astype(np.float32)
    if rng.random() < 0.15:  # red-free, or grey by any other mixture
        share = rng.dirichlet([0.5, 1.0, 0.3]).astype(np.float32)
        unit = np.repeat((unit @ share)[..., None], 3, axis=2)
    if rng.random() < 0.7:
        coarse = np.exp(rng.normal(0.0, 0.2, (3, 3))).astype(np.float32)
        unit = (
            unit * cv2.resize(coarse, unit.shape[1::-1], interpolation=cv2.INTER_CUBIC)[..., None]
        )
    if rng.random() < 0.25:
        unit = cv2.GaussianBlur(unit, (0, 0), float(rng.uniform(0.6, 4.0)))
    if rng.random() < 0.15:  # haze
        unit = unit + float(rng.uniform(0.1, 0.5)) * (unit.mean(axis=(0, 1)) - unit)
    if rng.random() < 0.2:  # little light: few grey levels and shot noise
        light = float(np.exp(rng.uniform(np.log(0.06), np.log(0.5))))
        photons = 255.0 * light * 4.0
        unit = rng.poisson(np.clip(unit, 0, 1) * photons).astype(np.float32) / photons * light
    shown = np.round(np.clip(unit, 0.0, 1.0) * 255.0).astype(np.float32)
    return augment.damage(rng, shown) if rng.random() < 0.5 else shown


def _cut_out(rng: np.random.Generator, scene: Scene) -> Scene:
    """A part of a picture that is no retina: the more such parts, the more such pictures."""
    height, width = scene.inside.shape
    share = float(rng.uniform(0.35, 1.0))
    part = (max(24, round(share * height)), max(24, round(share * width)))
    top = int(rng.integers(0, max(1, height - part[0] + 1)))
    left = int(rng.integers(0, max(1, width - part[1] + 1)))
    where = (slice(top, top + part[0]), slice(left, left + part[1]))
    pixels = cv2.resize(scene.pixels[where], (KEPT_PX, KEPT_PX), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.4:
        pixels = _in_fundus_colours(rng, pixels)
    whole = np.ones((KEPT_PX, KEPT_PX), bool)
    if rng.random() < 0.5:
        rows, columns = np.mgrid[:KEPT_PX, :KEPT_PX]
        middle = (KEPT_PX - 1) / 2
        whole = np.hypot(rows - middle, columns - middle) < 0.49 * KEPT_PX
    return replace(scene, pixels=np.asarray(pixels, np.uint8), inside=whole)


def _in_fundus_colours(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """Any picture as dark and bright on orange, in soft focus: colours do not make a retina."""
    grey = pixels.mean(axis=2, dtype=np.float32)
    grey = (grey - grey.mean()) / (grey.std() + 2.0) * float(rng.choice([-1.0, 1.0]))
    ground = rng.uniform([130.0, 55.0, 10.0], [240.0, 150.0, 90.0])
    contrast = np.array([30.0, 20.0, 9.0]) * rng.uniform(0.3, 1.3)
    coloured = ground + contrast * grey[..., None]
    soft = cv2.GaussianBlur(coloured, (0, 0), float(rng.uniform(0.5, 3.0)))
    return np.asarray(np.clip(soft, 0, 255), np.uint8)


def shoot(rng: np.random.Generator, scene: Scene) -> Shot:
    """One random view of a scene, with what the network is to say about it."""
    if not scene.fundus and rng.random() < 0.6:
        scene = _cut_out(rng, scene)
    aim: Aim = "anywhere"
    if scene.disc is not None:
        aim = list(AIMS)[int(rng.choice(len(AIMS), p=list(AIMS.values())))]
    matrix = _matrix(rng, scene, aim)
    size = (FIELD_PX, FIELD_PX)
    soft = cv2.GaussianBlur(scene.pixels, (0, 0), 0.5)
    pixels = cv2.warpAffine(soft, matrix, size, flags=cv2.INTER_LINEAR).astype(np.float32)
    inside = cv2.warpAffine(scene.inside.astype(np.float32), matrix, size, flags=cv2.INTER_NEAREST)
    inside = _field(rng, np.asarray(inside, np.float32), aim)
    layers = network_input(_worse(rng, pixels), inside > 0)
    zoom = float(np.sqrt(abs(np.linalg.det(matrix[:, :2])))) * KEPT_PX / FIELD_PX
    target = np.zeros((3, *inside.shape), np.float32)
    weight = np.repeat(inside[None], 3, axis=0)
    for channel, place, sigma in (
        (DISC, scene.disc, DISC_SIGMA_PX),
        (FOVEA, scene.fovea, FOVEA_SIGMA_PX),
    ):
        if place is not None:
            target[channel] = _peak(matrix @ np.array([*place, 1.0]), zoom * sigma) * inside
        elif scene.fundus:
            weight[channel] = 0.0
    target[RETINA] = float(scene.fundus)
    weight[:RETINA] *= 1.0 + PEAK_WEIGHT * target[:RETINA]
    return Shot(layers, target, weight)


def _peak(place: np.ndarray, sigma: float) -> Floats:
    grid = np.arange(FIELD_PX, dtype=np.float32)
    across = np.exp(-((grid - place[0]) ** 2) / (2 * sigma**2))
    down = np.exp(-((grid - place[1]) ** 2) / (2 * sigma**2))
    return np.asarray(down[:, None] * across[None, :], np.float32)


class LandmarkTask:
    """Scenes, network, loss and validation; see `trainer.Task`.

    Args:
        train: Scenes to learn from, retinas or not, with or without known landmarks.
        held_out: Scenes by which the best weights are chosen.
    """

    name = NAME

    def __init__(self, train: Sequence[Scene], held_out: Sequence[Scene] = ()) -> None:
        fundus = [scene for scene in train if scene.fundus]
        self._groups = [
            (_by_set([s for s in fundus if s.disc is not None]), KNOWN),
            (_by_set([s for s in fundus if s.disc is None]), UNKNOWN),
            ({"": [s for s in train if not s.fundus]}, OTHERS),
        ]
        self._held = list(held_out)
        self.facts: Mapping[str, Any] = {
            "task": NAME,
            "field_px": FIELD_PX,
            "trained_on": sorted(f"{s.dataset}/{s.name}" for s in fundus),
            "others": sorted(s.name for s in train if not s.fundus),
            "places_known": sum(scene.disc is not None for scene in fundus),
            "held_out": sorted(f"{s.dataset}/{s.name}" for s in held_out),
            "batch": [KNOWN, UNKNOWN, OTHERS],
        }

    def network(self) -> WNet:
        """A new network with random weights."""
        return WNet(CONFIG)

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Inputs (N, 4, S, S), targets and weights (N, 3, S, S)."""
        shots = [shoot(rng, scene) for scene in self._draw(rng)]
        return {
            "input": torch.from_numpy(np.stack([shot.layers for shot in shots])),
            "target": torch.from_numpy(np.stack([shot.target for shot in shots])),
            "weight": torch.from_numpy(np.stack([shot.weight for shot in shots])),
        }

    def _draw(self, rng: np.random.Generator) -> list[Scene]:
        """Each group as often as it says; each of its data sets by the root of its size."""
        drawn = []
        for sets, count in self._groups:
            names = [name for name, scenes in sets.items() if scenes]
            if not names:
                continue
            odds = np.sqrt([len(sets[name]) for name in names])
            for pick in rng.choice(len(names), count, p=odds / odds.sum()):
                scenes = sets[names[int(pick)]]
                drawn.append(scenes[int(rng.integers(len(scenes)))])
        return drawn

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy of the three maps."""
        picture = batch["input"].contiguous(memory_format=torch.channels_last)
        logits = network(picture)[-1]
        each = F.binary_cross_entropy_with_logits(logits, batch["target"], reduction="none")
        share = (each * batch["weight"]).sum((0, 2, 3)) / batch["weight"].sum((0, 2, 3)).clamp(1.0)
        return 10.0 * (share[DISC] + share[FOVEA]) + RETINA_WEIGHT * share[RETINA]

    def validate(self, network: WNet) -> dict[str, float]:
        """How near held-out landmarks are found, and how well retinas are told from the rest."""
        reader = LandmarkNetwork(network)
        near: dict[str, list[float]] = {"disc": [], "fovea": []}
        retina: dict[bool, list[float]] = {True: [], False: []}
        for scene in self._held:
            maps = reader.maps(*_at_field(scene))
            retina[scene.fundus].append(float(maps[RETINA][maps[RETINA] > 0].mean()))
            for name, channel, place in (
                ("disc", DISC, scene.disc),
                ("fovea", FOVEA, scene.fovea),
            ):
                if place is not None:
                    near[name].append(_near(maps[channel], place))
        figures = {name: float(np.mean(values)) for name, values in near.items() if values}
        for fundus, name in ((True, "retina"), (False, "other")):
            if retina[fundus]:
                figures[name] = float(np.mean(np.array(retina[fundus]) > 0.5))
        score = sum(figures.get(name, 0.0) for name in ("disc", "fovea", "retina"))
        return {"score": score - figures.get("other", 0.0), **figures}


def _at_field(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    height, width = scene.inside.shape
    size = (round(width * FIELD_PX / KEPT_PX), round(height * FIELD_PX / KEPT_PX))
    pixels = cv2.resize(scene.pixels, size, interpolation=cv2.INTER_AREA)
    inside = cv2.resize(scene.inside.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    return pixels, inside > 0


def _near(values: Floats, place: Point) -> float:
    """1 at the right place, 0 at half a disc diameter from it."""
    found = peaks(values, count=1, apart_px=16.0)
    if not found:
        return 0.0
    wanted = (np.array(place) + 0.5) * FIELD_PX / KEPT_PX - 0.5
    distance = float(np.hypot(found[0].x - wanted[0], found[0].y - wanted[1]))
    return max(0.0, 1.0 - distance / (FIELD_PX / 14))


def _by_set(scenes: Sequence[Scene]) -> dict[str, list[Scene]]:
    names = sorted({scene.dataset for scene in scenes})
    return {name: [scene for scene in scenes if scene.dataset == name] for name in names}


def make(root: Path) -> LandmarkTask:
    """The task on all photographs below `root` that are for training.

    Photographs without known places get those that the shipped network is sure of.
    """
    entries = fundus_entries(root, "train")
    known, unknown = _split_known(entries)
    known, held = split_held_out(known, HELD_OUT_EVERY)
    others, other_held = split_held_out(other_entries(root, "train"), HELD_OUT_EVERY)
    numbers = range(DRAWN + DRAWN_HELD_OUT)
    sketches = [drawn_scene(f, n, KEPT_PX) for n in numbers for f in drawn.FAMILIES]
    learnt = DRAWN * len(drawn.FAMILIES)

    def read(wanted: list[Entry], *, fundus: bool) -> list[Scene]:
        return read_scenes(wanted, KEPT_PX, fundus=fundus)

    retinas = read([*known, *unknown], fundus=True)
    teacher, _ = shipped_weights()
    if teacher.exists():
        retinas = label(retinas, LandmarkNetwork.read(teacher), KEPT_PX)
    return LandmarkTask(
        [*retinas, *read(others, fundus=False), *sketches[:learnt]],
        [*read(held, fundus=True), *read(other_held, fundus=False), *sketches[learnt:]],
    )


def _split_known(entries: list[Entry]) -> tuple[list[Entry], list[Entry]]:
    known = [entry for entry in entries if truth_of(entry).disc is not None]
    named = {(entry.dataset, entry.name) for entry in known}
    unknown: list[Entry] = []
    for dataset in sorted({entry.dataset for entry in entries}):
        rest = [e for e in entries if e.dataset == dataset and (e.dataset, e.name) not in named]
        unknown += rest[:: max(1, -(-len(rest) // MOST_PER_SET))]
    return known, unknown


def finish(root: Path, weights: Path) -> None:
    """Nothing is left to choose: limits are those of `quality.landmarks`."""
