"""The vertical cup-to-disc ratio beside that of four experts on the outlines they agreed on."""

from __future__ import annotations

import csv

import cv2
import numpy as np
import pytest

from fovea_plugins.biomarkers.disc import measure_disc

AGREED = 160
"""The soft maps hold 0, 64, 128, 191 and 255: at least three of four experts."""


@pytest.mark.shared_data
def test_vertical_ratio_agrees_with_the_experts_of_drishti(shared_data):
    folder = shared_data / "DRISHTI-GS"
    if not (folder / "softmap_cup").is_dir():
        pytest.skip("DRISHTI-GS is not beside this checkout")
    with (folder / "labels.csv").open() as table:
        rows = list(csv.DictReader(table))
    errors, own = [], []
    for row in rows:
        disc, cup = (
            cv2.imread(str(next((folder / f"softmap_{part}").glob(f"{row['id']}*"))), 0) >= AGREED
            for part in ("disc", "cup")
        )
        measures = measure_disc(disc, cup, eye=None)
        experts = [float(row[f"cdr{number}"]) for number in range(1, 5)]
        errors.append(measures.value("vertical_cdr") - np.mean(experts))
        own.append(np.abs(experts - np.mean(experts)).mean())
        # The same masks, measured by counting rows, when the set was packed.
        assert measures.value("vertical_cdr") == pytest.approx(
            float(row["vertical_cdr_from_mask"]), abs=0.01
        )
    mean, error = np.mean(errors), np.abs(errors).mean()
    print(  # noqa: T201  (the figures of the model card)
        f"{len(rows)} discs: mean error {mean:+.4f}, MAE {error:.4f}; "
        f"one expert from the mean of four {np.mean(own):.4f}"
    )
    assert len(rows) == 50
    assert abs(mean) < 0.025
    assert error < 0.03 < np.mean(own)
