"""A public-domain retinal photograph, to try Fovea without own images."""

from __future__ import annotations

from pathlib import Path

SAMPLE_CREDIT = "Mikael Häggström, 2014, Wikimedia Commons, CC0 (shipped with scikit-image)"


def sample_photograph(folder: Path) -> Path:
    """A normal retina (1411 x 1411 px, RGB) as a PNG file in `folder`.

    The photograph is `skimage.data.retina()`, which comes with scikit-image: nothing
    is downloaded. Source: Häggström M. Medical gallery of Mikael Häggström 2014.
    WikiJournal of Medicine 1(2), doi:10.15347/wjm/2014.008.
    """
    from PIL import Image
    from skimage.data import retina

    path = folder / "sample.png"
    Image.fromarray(retina()).save(path)
    return path
