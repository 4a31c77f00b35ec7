"""Make a plugin of a weight file that a person has: `fovea models add`."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

from fovea.errors import ConfigError, WeightsError
from fovea_plugins.segmenter.published.catalogue import VARIANTS, Variant, variant_named

_CODE = '''"""{title} with the weights in this folder; written by `fovea models add`."""

from fovea_plugins.segmenter.published.plugin import PublishedSegmenter


class Segmenter(PublishedSegmenter):
    """`{name}`."""

    variant_name = "{name}"
'''
_WEIGHTS = """
[[weights]]
file = "{file}"
sha256 = "{sha256}"
bytes = {bytes}
licence = "Given by a user; its authors state MIT at {source}. Trained on {trained_on}: see the \
terms of that data."
"""


def add_published(name: str, file: Path, *, sha256: str, plugins_dir: Path) -> Path:
    """Write a plugin folder with the weights in it; gives the folder.

    Args:
        name: A key of `VARIANTS`.
        file: Safetensors file; the authors' `.pth` has to be converted first.
        sha256: Digest that the file must have.
        plugins_dir: Folder of plugins; made if missing.

    Raises:
        ConfigError: no such network, or its tool is in the folder already.
        WeightsError: no file, another digest, or weights of another network.
    """
    from fovea_plugins.segmenter.published.reading import check_weights

    variant = variant_named(name)
    target = plugins_dir / variant.network.tool
    if target.exists():
        raise ConfigError(
            f"`{target.name}` is in the plugin folder already",
            fix=f"Remove the folder `{target.name}` first, or choose another plugin folder",
        )
    if not file.is_file():
        raise WeightsError(f"There is no file `{file.name}`", fix="Check the spelling")
    plugins_dir.mkdir(parents=True, exist_ok=True)
    # A leading dot: what is not finished is no plugin.
    with tempfile.TemporaryDirectory(prefix=".adding-", dir=plugins_dir) as folder:
        made = Path(folder) / target.name
        weights = made / "weights" / f"{variant.name}.safetensors"
        weights.parent.mkdir(parents=True)
        shutil.copyfile(file, weights)
        _check_digest(weights, file.name, sha256)
        try:
            check_weights(variant, weights)
        except WeightsError as error:
            raise WeightsError(error.what, where=file.name, why=error.why, fix=error.fix) from error
        _write(made, variant, weights, sha256)
        made.rename(target)
    return target


def published() -> list[dict[str, str | int]]:
    """What can be added, as plain rows."""
    return [
        {
            "name": variant.name,
            "tool": variant.network.tool,
            "title": variant.network.title,
            "parameters": variant.network.parameters,
            "cost": variant.cost,
            "trained_on": variant.trained_on,
            "file": variant.file,
            "source": variant.network.source,
        }
        for variant in VARIANTS.values()
    ]


def _check_digest(copy: Path, name: str, sha256: str) -> None:
    with copy.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != sha256:
        raise WeightsError(
            f"`{name}` is not the file whose sha256 was given",
            why=f"Expected {sha256}, found {found}",
            fix="Convert the authors' file again, or give the sha256 that `fovea models convert` "
            "printed",
        )


def _write(made: Path, variant: Variant, weights: Path, sha256: str) -> None:
    network = variant.network
    manifest = Path(__file__).with_name(f"{network.key}.toml").read_text(encoding="utf-8")
    manifest += _WEIGHTS.format(
        file=weights.relative_to(made).as_posix(),
        sha256=sha256,
        bytes=weights.stat().st_size,
        source=network.source,
        trained_on=variant.trained_on,
    )
    (made / "plugin.toml").write_text(manifest, encoding="utf-8")
    code = _CODE.format(title=network.title, name=variant.name)
    (made / "plugin.py").write_text(code, encoding="utf-8")
