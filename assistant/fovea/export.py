"""Write an analysis as a folder: `result.json`, masks and an overlay."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2

from fovea.assistant import Analysis
from fovea.contract import read_mask
from fovea.image import Mask
from fovea.overlay import draw_overlay


def write_analysis(analysis: Analysis, folder: Path) -> Path:
    """Write `result.json`, every mask (8-bit, 0/255, original frame) and `overlay.png`.

    Returns:
        The path of `result.json`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    masks: dict[str, Mask] = {}
    for evidence in analysis.evidence.values():
        for artifact in evidence.result.artifacts:
            shutil.copyfile(artifact.path, folder / artifact.path.name)
            if artifact.kind == "mask":
                masks[artifact.name] = read_mask(artifact.path)
    record = analysis.session.images["img1"]
    pixels = analysis.session.photograph("img1").pixels
    overlay = draw_overlay(pixels, masks)
    cv2.imwrite(str(folder / "overlay.png"), cv2.cvtColor(overlay, cv2.COLOR_RGB2BGR))
    content = {
        "image": record.model_dump(mode="json"),
        "evidence": {key: e.as_json() for key, e in analysis.evidence.items()},
        "refused": analysis.refused,
    }
    out = folder / "result.json"
    out.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
    return out
