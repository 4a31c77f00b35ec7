"""The published networks that can be loaded, and the weight files that their authors give out.

Facts only: nothing here imports torch, and no weights are shipped.
"""

from __future__ import annotations

from dataclasses import dataclass

from fovea.errors import ConfigError


@dataclass(frozen=True)
class Network:
    """One published architecture.

    Attributes:
        key: Names its manifest, `<key>.toml`.
        tool: Name of the tool that it becomes.
        parameters: Trainable numbers in it.
        source: Where the authors publish code and weights.
    """

    key: str
    title: str
    tool: str
    parameters: int
    source: str
    reference: str

    @property
    def size(self) -> str:
        """The number of parameters in words."""
        if self.parameters >= 1_000_000:
            return f"{self.parameters / 1e6:.0f} million parameters"
        return f"{self.parameters:,} parameters".replace(",", " ")


@dataclass(frozen=True)
class Variant:
    """One weight file of the authors, and how its photographs were prepared.

    Attributes:
        name: What a person calls it: `rrwnet-rite`.
        file: The authors' name of the file.
        trained_on: Data of its training.
        size_px: W-Net: side of the square that the field of view is brought to.
            RRWNet: diameter of the field of view.
        cpu_seconds: About what one image takes; said whenever the network is chosen.
        threshold: Vessel probability above which the authors call a pixel vessel; None:
            what is likelier than not.
    """

    name: str
    network: Network
    file: str
    trained_on: str
    size_px: int
    cpu_seconds: int
    threshold: float | None = None

    @property
    def cost(self) -> str:
        """What a run takes, in words."""
        return f"about {self.cpu_seconds} CPU-seconds an image"


_LWNET = "github.com/agaldran/lwnet"
_GALDRAN = "Galdran et al., Sci Rep 2022;12:6174"
_MORANO = "Morano et al., Expert Syst Appl 2024;256:124970"

WNET = Network("wnet", "Little W-Net", "segment_vessels_wnet", 68_482, _LWNET, _GALDRAN)
BIG_WNET = Network("big_wnet", "Big W-Net", "segment_vessels_big_wnet", 279_464, _LWNET, _GALDRAN)
RRWNET = Network(
    "rrwnet", "RRWNet", "segment_vessels_rrwnet", 62_063_685, "github.com/j-morano/rrwnet", _MORANO
)

_FILE = "model_checkpoint.pth"
VARIANTS = {
    variant.name: variant
    for variant in (
        # Sizes and thresholds: README of agaldran/lwnet, section 10.
        Variant("wnet-drive", WNET, f"wnet_drive/{_FILE}", "DRIVE", 512, 2, 0.4196),
        Variant("wnet-hrf", WNET, f"wnet_hrf_1024/{_FILE}", "HRF", 1024, 6, 0.3725),
        Variant("big-wnet-drive", BIG_WNET, f"big_wnet_drive_av/{_FILE}", "DRIVE", 512, 2),
        Variant("big-wnet-hrf", BIG_WNET, f"big_wnet_hrf_av_1024/{_FILE}", "HRF", 1024, 6),
        # RITE is DRIVE at its own size, where the field measures 540 px. HRF was brought to
        # a width of 1024 px, where its field measures 959 px.
        Variant("rrwnet-rite", RRWNET, "rrwnet_RITE_1.pth", "RITE (DRIVE)", 540, 47),
        Variant("rrwnet-hrf", RRWNET, "rrwnet_HRF_0.pth", "HRF", 959, 150),
    )
}
"""By name. One more published weight file is one more line."""


def variant_named(name: str) -> Variant:
    """The variant of that name.

    Raises:
        ConfigError: naming those there are.
    """
    if name not in VARIANTS:
        raise ConfigError(
            f"There is no published network `{name}`",
            fix=f"Choose one of: {', '.join(VARIANTS)}",
        )
    return VARIANTS[name]
