"""The tools of published networks: `segment_vessels`'s masks from somebody else's weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fovea.contract import Caveat, Context, NoArgs, Plugin, Result
from fovea.errors import NotApplicable, PluginUnavailable, WeightsError
from fovea_plugins.segmenter.published.catalogue import Variant, variant_named

if TYPE_CHECKING:
    from torch import nn

    from fovea_plugins.segmenter.published.pipelines import Found

LEAST_SHARE, LARGEST_SHARE = 0.01, 0.30
"""Shares of the field of view that vessels plausibly cover; manual masks have 0.05 to 0.16."""


class PublishedSegmenter(Plugin[NoArgs]):
    """Vessels, and with most networks arteries and veins, by a published network.

    `fovea models add` writes a plugin folder with a subclass that names its variant.
    """

    Args = NoArgs
    variant_name: ClassVar[str]

    _network: nn.Module | None = None

    @property
    def variant(self) -> Variant:
        """Which weights of which network."""
        return variant_named(self.variant_name)

    def load(self, device: str) -> None:
        """Read the weights that were given; the network runs on the processor."""
        from fovea_plugins.segmenter.published.reading import read_network

        path = self.folder / self.manifest.weights[0].file
        try:
            self._network = read_network(self.variant, path)
        except WeightsError as error:
            raise PluginUnavailable(
                self.manifest.name, error.what, where=error.where, why=error.why, fix=error.fix
            ) from error

    def unload(self) -> None:
        """Forget the network."""
        self._network = None

    def run(self, context: Context, args: NoArgs) -> Result:
        """Masks and vessel probability in the frame of the original.

        Raises:
            NotApplicable: what was found covers an implausible share of the field.
        """
        from fovea_plugins.segmenter.published.pipelines import find_vessels

        if self._network is None:
            raise PluginUnavailable(
                self.manifest.name, "The network is not loaded", why="`load` was not called",
                fix="Call the plugin through the registry",
            )  # fmt: skip
        photograph = context.image
        found = find_vessels(self._network, self.variant, photograph, context.progress)
        context.check_cancelled()
        field = max(int(photograph.field_of_view.sum()), 1)
        shares = {name: float(mask.sum()) / field for name, mask in found.masks.items()}
        if not LEAST_SHARE <= shares["vessels"] <= LARGEST_SHARE:
            raise NotApplicable(
                self.manifest.name,
                "No believable vessel tree was found",
                where=photograph.handle,
                why=f"{shares['vessels']:.1%} of the field answered like vessel; between "
                f"{LEAST_SHARE:.0%} and {LARGEST_SHARE:.0%} is plausible",
                fix="Use a sharper, evenly lit photograph",
            )
        return self._result(context, found, shares)

    def _result(self, context: Context, found: Found, shares: dict[str, float]) -> Result:
        grey = np.round(found.probability.clip(0.0, 1.0) * 255.0).astype(np.uint8)
        picture = np.repeat(grey[..., None], 3, axis=2)
        masks = [context.save_mask(name, mask) for name, mask in found.masks.items()]
        return Result(
            summary=_summary(self.variant, shares),
            artifacts=(*masks, context.save_picture("vessel_probability", picture, "heatmap")),
            caveats=_caveats(self.variant),
        )


def _summary(variant: Variant, shares: dict[str, float]) -> str:
    apart = "Arteries and veins are not told apart."
    if "arteries" in shares:
        apart = f"Arteries cover {shares['arteries']:.1%}, veins {shares['veins']:.1%}."
    network = variant.network
    return (
        f"Vessels outlined by {network.title} ({network.size}) with its authors' weights; they "
        f"cover {shares['vessels']:.1%} of the field of view. {apart}"
    )


def _caveats(variant: Variant) -> tuple[Caveat, ...]:
    network = variant.network
    return (
        Caveat(
            code="published_weights",
            text=f"The weights ({variant.name}, {network.reference}) were trained on "
            f"{variant.trained_on} and given by a user. Fovea has not measured how well they "
            "do on this camera.",
        ),
        Caveat(
            code="cost",
            text=f"{network.title} has {network.size} and takes {variant.cost}.",
        ),
    )
