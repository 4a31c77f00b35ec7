"""Write an analysis as a folder: `result.json`, masks and an overlay."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2

from fovea.assistant import Analysis
from fovea.contract import read_mask
from fovea.evidence import Evidence
from fovea.image import Mask
from fovea.overlay import draw_overlay


def write_analysis(analysis: Analysis, folder: Path) -> Path:
    """Write `result.json`, every mask (8-bit, 0/255, original frame) and `overlay.png`.

    Returns:
        The path of `result.json`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    masks: dict[str, Mask] = {}
    stored: dict[str, dict[str, Any]] = {}
    taken: set[str] = set()
    for key, evidence in analysis.evidence.items():
        stored[key] = _copied(evidence, folder, taken)
        for artifact in evidence.result.artifacts:
            if artifact.kind == "mask" and artifact.name not in masks:
                masks[artifact.name] = read_mask(artifact.path)
    record = analysis.session.images["img1"]
    pixels = analysis.session.photograph("img1").pixels
    overlay = draw_overlay(pixels, masks)
    cv2.imwrite(str(folder / "overlay.png"), cv2.cvtColor(overlay, cv2.COLOR_RGB2BGR))
    content = {
        "image": record.model_dump(mode="json"),
        "evidence": stored,
        "refused": {tool: str(error) for tool, error in analysis.refused.items()},
    }
    out = folder / "result.json"
    out.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
    return out


def _copied(evidence: Evidence, folder: Path, taken: set[str]) -> dict[str, Any]:
    """The evidence as plain JSON, its files copied; a name in `taken` gets the tool in front."""
    content = evidence.as_json()
    for artifact, told in zip(evidence.result.artifacts, content["artifacts"], strict=True):
        if told["path"] in taken:
            told["path"] = f"{evidence.tool}.{told['path']}"
        taken.add(told["path"])
        shutil.copyfile(artifact.path, folder / told["path"])
    return content
