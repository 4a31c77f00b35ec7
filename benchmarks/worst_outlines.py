"""Pictures of the photographs on which discs, cups and landmarks are placed worst.

Run: python benchmarks/worst_outlines.py disc|landmarks DATA OUT.jpg

disc       the three of DRISHTI-GS with the lowest cup Dice, each by the network that did not
           learn from it: experts' outlines white, found ones red
landmarks  the three validation photographs of IDRiD with the largest error of the fovea:
           labelled places as white circles, found ones red
Photographs of data sets are not shown, so that the picture can be given on.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from fovea_plugins.quality.examination import examine
from fovea_plugins.quality.network import LandmarkNetwork
from fovea_plugins.segmenter.optic_disc.network import DiscNetwork
from fovea_plugins.segmenter.optic_disc.reading import read_disc
from fovea_plugins.training.landmark_data import fundus_entries, truth_of
from fovea_plugins.training.measure_landmarks import DISC_SHARE
from fovea_plugins.training.measure_optic_disc import agreed, shipped_weights
from fovea_plugins.training.measure_quality import shipped_weights as gate_weights
from fovea_plugins.training.metrics import dice
from fovea_plugins.training.nets import read_net
from fovea_plugins.training.optic_disc import DISC_KIND, SOFT_KINDS, find

WORST, SIDE_PX = 3, 380
WHITE, RED = (255, 255, 255), (255, 70, 70)


def dark(inside: np.ndarray) -> np.ndarray:
    """The field of view in grey, without the photograph."""
    return np.where(inside[..., None], 40, 0).astype(np.uint8).repeat(3, axis=2)


def outline(picture: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> None:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, colour, max(1, picture.shape[1] // 300))


def titled(picture: np.ndarray, text: str) -> np.ndarray:
    height = round(SIDE_PX * picture.shape[0] / picture.shape[1])
    small = cv2.resize(picture, (SIDE_PX, height), interpolation=cv2.INTER_AREA)
    small = cv2.copyMakeBorder(small, 0, max(0, SIDE_PX - height), 0, 0, cv2.BORDER_CONSTANT)
    cv2.putText(small, text, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.42, WHITE, 1, cv2.LINE_AA)
    return small[:SIDE_PX]


def worst_discs(data: Path) -> list[np.ndarray]:
    paths = shipped_weights()
    learned = {path: set(read_net(path)[1]["trained_on"]) for path in paths}
    rows = []
    for entry in find(data):
        unseen = [p for p in paths if f"{entry.dataset}/{entry.name}" not in learned[p]]
        label = entry.label(SOFT_KINDS[1])
        if label is None or not unseen:
            continue
        cup, photograph = agreed(label), entry.photograph()
        soft = entry.label(SOFT_KINDS[0])
        disc = agreed(soft if soft is not None else entry.label(DISC_KIND))
        place = np.array([float(np.nonzero(disc)[axis].mean()) for axis in (1, 0)])
        found = read_disc(DiscNetwork.read(unseen), photograph, place)
        if found is None:
            continue
        mine = found.cup.mask(cup.shape) if found.cup else np.zeros(cup.shape, bool)
        picture = dark(photograph.field_of_view)
        for masks, colour in (((disc, cup), WHITE), ((found.disc.mask(cup.shape), mine), RED)):
            for mask in masks:
                outline(picture, mask, colour)
        ys, xs = np.nonzero(disc)
        reach = int(np.ptp(ys))
        top, left = max(0, int(ys.mean()) - reach), max(0, int(xs.mean()) - reach)
        crop = np.ascontiguousarray(picture[top : top + 2 * reach, left : left + 2 * reach])
        rows.append((dice(mine, cup), f"{entry.name}: cup Dice {dice(mine, cup):.2f}", crop))
    return [titled(crop, text) for _, text, crop in sorted(rows, key=lambda row: row[0])[:WORST]]


def worst_landmarks(data: Path) -> list[np.ndarray]:
    network = LandmarkNetwork.read(gate_weights()[0])
    rows = []
    for entry in fundus_entries(data, "val"):
        truth = truth_of(entry)
        if truth.fovea is None or truth.disc is None:
            continue
        photograph = entry.photograph()
        examined = examine(photograph, network)
        if examined.fovea is None or examined.disc is None:
            continue
        found = [
            examined.view.frame.to_original(np.array([one.x, one.y]))
            for one in (examined.disc, examined.fovea)
        ]
        diameter = 2.0 * photograph.field_circle.radius * DISC_SHARE
        error = float(np.hypot(*(found[1] - np.array(truth.fovea)))) / diameter
        picture, width = dark(photograph.field_of_view), max(2, photograph.width // 300)
        for places, colour in (((truth.disc, truth.fovea), WHITE), (found, RED)):
            for place, share in zip(places, (0.5, 0.2), strict=True):
                centre = (round(float(place[0])), round(float(place[1])))
                cv2.circle(picture, centre, round(share * diameter), colour, width)
        rows.append((error, f"{entry.name}: fovea {error:.2f} disc diameters", picture))
    return [titled(p, text) for _, text, p in sorted(rows, key=lambda row: -row[0])[:WORST]]


def main() -> None:
    """Writes the picture."""
    what, data, out = sys.argv[1:]
    panels = {"disc": worst_discs, "landmarks": worst_landmarks}[what](Path(data))
    picture = cv2.cvtColor(np.hstack(panels), cv2.COLOR_RGB2BGR)
    cv2.imwrite(out, picture, [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == "__main__":
    main()
