"""Check a plugin's result against its manifest: names, units, ranges, frames, files."""

from __future__ import annotations

import numpy as np

from fovea.contract import Artifact, Context, Measurement, Result
from fovea.errors import ContractViolation
from fovea.manifest import PHYSICAL_UNITS, Manifest, Output


def check_result(manifest: Manifest, result: Result, context: Context) -> None:
    """Raise `ContractViolation` if the result says anything the manifest does not allow."""
    if not isinstance(result, Result):
        raise ContractViolation(
            manifest.name,
            f"It returned a {type(result).__name__}, not a Result",
            fix="Return `fovea.contract.Result`",
        )
    seen: set[tuple[str, str | None, str | None]] = set()
    for measurement in result.measurements:
        _check_measurement(manifest, measurement, context)
        key = (measurement.name, measurement.zone, measurement.eye)
        if key in seen:
            raise ContractViolation(manifest.name, f"`{measurement.name}` was returned twice")
        seen.add(key)
    for missing in result.not_measured:
        _declared(manifest, missing.name, "measurement")
        if (missing.name, None, None) in seen:
            raise ContractViolation(
                manifest.name, f"`{missing.name}` is both measured and not measured"
            )
    for finding in result.findings:
        _declared(manifest, finding.concept, "finding")
    for artifact in result.artifacts:
        _declared(manifest, artifact.name, artifact.kind)
        _check_file(manifest, artifact, context)


def _declared(manifest: Manifest, name: str, kind: str) -> Output:
    output = manifest.output(name)
    if output is None or output.kind != kind:
        raise ContractViolation(
            manifest.name,
            f"It returned the {kind} `{name}`, which its manifest does not declare",
            fix="Add it under `[[outputs]]` in plugin.toml",
        )
    return output


def _check_measurement(manifest: Manifest, measurement: Measurement, context: Context) -> None:
    name, value = measurement.name, measurement.value
    output = _declared(manifest, name, "measurement")
    if measurement.unit != output.unit:
        raise ContractViolation(
            manifest.name,
            f"`{name}` came in `{measurement.unit}`, but is declared in `{output.unit}`",
        )
    if output.low is None or output.high is None or not output.low <= value <= output.high:
        raise ContractViolation(
            manifest.name,
            f"`{name}` = {value:.4g} is outside its plausible range",
            why=f"The manifest declares {output.low} to {output.high}",
        )
    interval = measurement.interval
    if interval is not None and not interval.low <= value <= interval.high:
        raise ContractViolation(manifest.name, f"The interval of `{name}` does not hold its value")
    if measurement.unit in PHYSICAL_UNITS and context.scale is None:
        raise ContractViolation(
            manifest.name,
            f"`{name}` is in `{measurement.unit}`, but the scale of the image is unknown",
            fix="Return a NotMeasured with the reason",
        )


def _check_file(manifest: Manifest, artifact: Artifact, context: Context) -> None:
    path = artifact.path.resolve()
    if not path.is_relative_to(context.work_dir.resolve()):
        raise ContractViolation(manifest.name, f"`{artifact.name}` lies outside its work folder")
    if not path.is_file():
        raise ContractViolation(manifest.name, f"The file of `{artifact.name}` was not written")
    if artifact.kind == "table" or not context.images:
        return
    import cv2

    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ContractViolation(manifest.name, f"`{artifact.name}` is not a readable picture")
    if artifact.kind == "image":
        return
    expected = (context.image.height, context.image.width)
    if pixels.shape[:2] != expected:
        raise ContractViolation(
            manifest.name,
            f"`{artifact.name}` is not in the frame of the image",
            why=f"It has {pixels.shape[1]} x {pixels.shape[0]} pixels, "
            f"the image {expected[1]} x {expected[0]}",
            fix="Bring it back with `Frame.map_to_original`",
        )
    if artifact.kind == "mask" and not np.isin(np.unique(pixels), (0, 255)).all():
        raise ContractViolation(
            manifest.name, f"The mask `{artifact.name}` holds values other than 0 and 255"
        )
